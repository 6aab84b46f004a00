"""Trains on images ten times as large as the memory it may take for that.

Run by `test_feeds` in a process of its own, with a folder to write to. The same steps
are taken undisturbed, then in two launches, which are watched.
"""

import contextlib
import pathlib
import sys

import jax
import numpy as np
import pytest
import runs

from benchmarks import own_memory
from infusion_jax import datasets
from infusion_jax.config import Config
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.training import feeds, loop, signals, snapshot
from infusion_jax.training.state import make_recipe, make_run

ALLOWED = 96 * 2**20
SHAPE = 32, 32, 3
COUNT = 10 * ALLOWED // (32 * 32 * 3)
CONFIG = Config.from_dict(
  {
    "data": {"name": "large", "source": "npy", "stream": "always"},
    "model": {"hidden_sizes": (4,)},
    "chain": {"num_steps": 1},
    "train": {"batch_size": 64, "monitor_images": 0},
  }
)


def write(folder):
  """One image in 16 is random; the others are holes of the file, which stays small."""
  shape = (COUNT, *SHAPE)
  train = np.lib.format.open_memmap(folder / "train.npy", "w+", np.uint8, shape)
  part = np.random.default_rng(0).integers(0, 256, (1000, *SHAPE), np.uint8)
  for number, first in enumerate(range(0, COUNT - 16_000, 16_000)):
    train[first : first + 16_000 : 16] = part + np.uint8(number)
  np.save(folder / "validation.npy", part[:64])
  np.save(folder / "test.npy", part[:2])


def train_until(dataset, folder, last, resumed=0):
  """Trains until a step, at which a signal comes."""
  with (
    pytest.MonkeyPatch.context() as patch,
    runs.signal_at(last - resumed, patch),
    pytest.raises(signals.Stopped),
  ):
    loop.fit(CONFIG, dataset, folder, progress=False)


def state_of(dataset, folder):
  checkpoints = Checkpoints(folder)
  recipe, run = make_recipe(CONFIG, dataset), make_run(CONFIG, dataset)
  step = checkpoints.steps()[-1]
  found = snapshot.restore(checkpoints, step, recipe, run)
  checkpoints.close()
  return found


@contextlib.contextmanager
def at_most(more):
  """Fails where the process takes more than so many bytes beside those it has."""
  with own_memory.watched() as seen:
    yield
  taken = max(seen) - seen[0]
  assert taken <= more, f"{taken / 2**20:.0f} MiB more"


def main(folder):
  feeds.BLOCK_BYTES = 2**20
  write(folder)
  dataset = datasets.load("large", "npy", str(folder))
  train_until(dataset, folder / "whole", 60)
  with at_most(ALLOWED):
    train_until(dataset, folder / "parts", 25)
    train_until(dataset, folder / "parts", 60, resumed=25)
  a, b = (state_of(dataset, folder / name) for name in ("whole", "parts"))
  assert int(a.step) == int(b.step) == 60
  jax.tree.map(np.testing.assert_array_equal, a, b)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
