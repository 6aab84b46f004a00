"""One seed, one result: whatever is shown, drawn and measured on the way."""

import jax
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax.training import epochs, loop


def fit(folder, progress=False, **train):
  config = runs.config(num_epochs=3, **train)
  loop.fit(config, runs.dataset(), folder, progress=progress)
  return infusion_jax.load(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
  folder = tmp_path_factory.mktemp("plain") / "run"
  return folder, fit(folder)


def assert_same(plain, folder, model):
  assert runs.rows(folder) == runs.rows(plain[0])
  jax.tree.map(np.testing.assert_array_equal, model.weights, plain[1].weights)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"progress": True},
    {"preview_every": 1},
    {"checkpoint_every": 3},
    {"keep_every": 1, "preview_every": 2, "progress": True},
    {"on_nonfinite": "rollback"},
  ],
  ids=str,
)
def test_what_is_shown_and_kept_changes_nothing(plain, options, tmp_path):
  assert_same(plain, tmp_path / "run", fit(tmp_path / "run", **options))


def test_chunks_of_any_length_change_nothing(plain, tmp_path, monkeypatch):
  monkeypatch.setattr(epochs.Training, "chunk_seconds", 0.0)
  assert_same(plain, tmp_path / "run", fit(tmp_path / "run"))


def test_evaluating_between_epochs_changes_nothing(plain, tmp_path):
  folder = tmp_path / "run"
  config, data = runs.config(num_epochs=1), runs.dataset()
  loop.fit(config, data, folder, progress=False)
  model = infusion_jax.load(folder)
  model.sample(jax.random.key(0), 3)
  model.estimate(jax.random.key(1), data.test[:3], 2)
  assert_same(plain, folder, fit(folder))
