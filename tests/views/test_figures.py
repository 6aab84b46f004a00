"""Figures: which images stand where."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from launching import DIGITS, launch

import infusion_jax
from infusion_jax import model as models
from infusion_jax.datasets import digits
from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.model import keys_of
from infusion_jax.views import figures


@pytest.fixture(scope="module")
def model():
  return infusion_jax.load(DIGITS)


@pytest.fixture(scope="module")
def keys(model):
  return keys_of(jax.random.key(0), range(3))


def test_states_run_from_noise_to_the_picture(model, keys):
  frames = figures.model_chains(model, keys)
  chains = model.chain(keys)
  assert frames.images.shape == (3, 11, 8, 8, 1)
  assert list(frames.labels) == [f"t = {t}" for t in range(10)] + ["mean"]
  np.testing.assert_array_equal(frames.images[:, :-1], chains.states)
  np.testing.assert_array_equal(frames.images[:, -1], chains.means[:, -1])


def test_means_leave_the_prior_out(model, keys):
  frames = figures.model_chains(model, keys, show="means", num_steps=12)
  assert list(frames.labels) == [f"mean {t}" for t in range(1, 13)]
  chains = model.chain(keys, num_steps=12)
  np.testing.assert_array_equal(frames.images, chains.means)


def test_the_last_frame_may_be_a_draw(model, keys):
  frames = figures.model_chains(model, keys, mean=False)
  expected = model.sample(keys, mean=False)
  np.testing.assert_array_equal(frames.images[:, -1], expected)
  assert frames.labels[-2:] == ["t = 9", "t = 10"]


def test_infusion_chains_set_their_targets_apart(model, keys):
  targets = (digits.load("digits").test[:3] / 17).astype(np.float32)
  frames = figures.infusion_chains(model, keys, targets)
  np.testing.assert_array_equal(frames.last, targets)
  assert frames.last_label == "target"
  expected = plots.strip(
    frames.images, targets, frames.labels, None, last_label="target"
  )
  np.testing.assert_array_equal(frames.strip(), expected)
  assert set(frames.arrays()) == {"images", "target"}


def test_epochs_stand_under_each_other(model, keys):
  target = (digits.load("digits").test[:1] / 17).astype(np.float32)
  untrained = models.untrained(model)
  frames = figures.over_epochs(iter([(0, untrained), (300, model)]), keys[:1], target)
  assert frames.rows == ["untrained", "epoch 300"]
  assert frames.images.shape == (2, 11, 8, 8, 1)
  np.testing.assert_array_equal(frames.last, np.repeat(target, 2, axis=0))
  # The same noise in both rows; what the network makes of it differs.
  np.testing.assert_array_equal(frames.images[0, 0], frames.images[1, 0])
  error = np.abs(frames.images[:, -1] - target).mean((1, 2, 3))
  assert error[1] < 0.5 * error[0]


def test_neighbors_are_those_of_the_last_frame(model, keys):
  train = digits.load("digits").train
  frames = figures.model_chains(model, keys)
  copied = frames.images.copy()
  copied[1, -1] = train[123] / 17
  frames, found = figures.with_neighbors(
    dataclasses.replace(frames, images=copied), train, 17
  )
  assert found.index[1] == 123
  assert found.distance[1] < 1e-5
  assert found.distance[0] > 0.1
  np.testing.assert_allclose(frames.last, train[found.index] / 17, rtol=1e-6)
  assert frames.last_label == "nearest"


def test_an_animation_has_a_frame_per_step(model, keys):
  content = figures.model_chains(model, keys).gif()
  assert content.startswith(b"GIF89a")


def test_other_things_to_show_are_refused(model, keys):
  with pytest.raises(UserError, match="'noise'; allowed are states, means"):
    figures.model_chains(model, keys, show="noise")


def measured(epochs):
  for epoch in epochs:
    yield {"epoch": epoch, "split": "train", "bound": 10.0 * epoch, "loss": 1.0}
    yield {"epoch": epoch, "split": "validation", "bound": 9.0 * epoch}


def test_training_curves_show_bounds_and_parzen():
  rows = list(measured(range(1, 6)))
  bounds = figures.training_curves(rows)
  parzen = {"epoch": 4, "split": "validation", "parzen": 200.0}
  both = figures.training_curves([*rows, parzen])
  assert bounds.shape == both.shape
  assert (bounds != both).any()


def test_training_curves_need_a_bound():
  with pytest.raises(UserError, match="no bound yet"):
    figures.training_curves([{"epoch": 1, "split": "train", "loss": 1.0}])


def test_the_curves_launcher_draws_a_runs_metrics(tmp_path):
  lines = [json.dumps(row) + "\n" for row in measured(range(1, 4))]
  (tmp_path / "metrics.jsonl").write_text("".join(lines))
  result = launch("curves", f"--workdir={tmp_path}", "--title=Digits")
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
  nothing = launch("curves", f"--workdir={tmp_path / 'elsewhere'}")
  assert nothing.returncode == 2
  assert "it has no metrics.jsonl" in nothing.stderr
