"""Images that are read block by block: same order, same bits, little memory."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import runs

from infusion_jax.training import devices, feeds, loop, programs, signals
from infusion_jax.training.state import initial_state, make_recipe, make_run

# Five batches of 16 an epoch; statistics over five of 14 images and one of 13.
DATA = runs.dataset(83)
LABELS = np.random.default_rng(2).integers(0, 3, 83, np.int32)
STEPS_OF_BLOCK = 2


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(feeds, "BLOCK_BYTES", STEPS_OF_BLOCK * 16 * 16)


def fit(folder, stream, **train):
  config = runs.config(**train)
  data = dataclasses.replace(config.data, stream=stream)
  config = dataclasses.replace(config, data=data)
  return loop.fit(config, DATA, folder, progress=False)


@pytest.fixture(scope="module")
def resident(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "resident"
  fit(folder, "never")
  return folder


def feed(kind, labels=None):
  config = runs.config()
  if labels is not None:
    model = dataclasses.replace(config.model, num_classes=3)
    config = dataclasses.replace(config, model=model)
  recipe, run = make_recipe(config, DATA), make_run(config, DATA)
  return recipe, run, kind(recipe, run, DATA.train, labels)


def trained(kind, sizes, labels=None):
  """State and statistics after steps that are asked for in portions."""
  recipe, run, found = feed(kind, labels)
  state = initial_state(recipe, run.key)
  for left in sizes:
    while left:
      state, taken = found.advance(state, left)
      left -= taken
  statistics = found.population_statistics(state.parameters)
  found.close()
  return state, statistics


def test_blocks_hold_the_batches_of_the_epoch_in_its_order():
  _, run, streamed = feed(feeds.Streamed, LABELS)
  assert streamed.steps == STEPS_OF_BLOCK
  order = np.asarray(programs.epoch_order(run.key, 1, len(DATA.train)))
  images = DATA.train[order[:80]].reshape(5, 16, 4, 4, 1)
  labels = LABELS[order[:80]].reshape(5, 16)
  for first, steps in ((5, 2), (7, 2), (9, 1)):
    for rows, all_rows in zip(streamed._block(first), (images, labels), strict=True):
      assert rows.shape[0] == STEPS_OF_BLOCK
      expected = all_rows[first - 5 : first - 5 + steps]
      np.testing.assert_array_equal(rows[:steps], expected)
  streamed.close()


@pytest.mark.parametrize(
  ("sizes", "labels"),
  [((5, 5), None), ((1, 2, 2, 3, 2), None), ((1, 2, 2, 3, 2), LABELS)],
  ids=["epochs", "portions", "labels"],
)
def test_state_and_statistics_are_bit_for_bit_those_of_resident_images(sizes, labels):
  jax.tree.map(
    np.testing.assert_array_equal,
    trained(feeds.Resident, (5, 5), labels),
    trained(feeds.Streamed, sizes, labels),
  )


def test_streamed_labels_are_learned_from():
  """Other labels of the same images give other weights."""
  states = [trained(feeds.Streamed, (5,), rows)[0] for rows in (LABELS, 2 - LABELS)]
  first, other = (jax.tree.leaves(state.parameters) for state in states)
  pairs = zip(first, other, strict=True)
  assert any(not np.array_equal(a, b) for a, b in pairs)


def test_a_run_stopped_and_resumed_either_way_has_the_same_metrics(
  resident, tmp_path, monkeypatch
):
  """The signal comes in the middle of a block; the rest is trained the other way."""
  with runs.signal_at(8, monkeypatch), pytest.raises(signals.Stopped, match="step 8"):
    fit(tmp_path / "run", "always")
  fit(tmp_path / "run", "always", num_epochs=2)
  fit(tmp_path / "run", "never")
  assert runs.rows(tmp_path / "run") == runs.rows(resident)


@pytest.mark.parametrize(
  ("stream", "free", "kind"),
  [
    ("auto", 2 * 83 * 16 + 2, feeds.Resident),
    ("auto", 2 * 83 * 16 - 2, feeds.Streamed),
    ("never", 0, feeds.Resident),
    ("always", 2**40, feeds.Streamed),
  ],
)
def test_images_that_fill_more_than_half_the_memory_are_streamed(
  stream, free, kind, monkeypatch
):
  monkeypatch.setattr(devices, "free_memory", lambda: free)
  recipe, run, _ = feed(feeds.Resident)
  found = feeds.make(stream, recipe, run, DATA.train)
  assert type(found) is kind
  found.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its memory")
def test_ten_times_the_memory_that_is_left_is_trained_on_and_resumed(tmp_path):
  script = pathlib.Path(__file__).parent / "little_memory.py"
  done = subprocess.run(
    [sys.executable, script, tmp_path],
    env={**os.environ, "PYTHONPATH": f"{script.parents[2]}:{script.parents[1]}"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
