"""Training sets of growing size, read block by block: python -m benchmarks.data_set.

Files of random 32x32 colour images are written, mapped into memory and trained on for
a few blocks, each size in a process of its own. Printed are the time of a step, also as
time of all cores, that of an epoch's permutation, and the most memory that the process
took, without pages of files. The network is small, so that reading weighs as much as
it can. At the smallest size, images that lie on the device and images that are read
take turns.

  python -m benchmarks.data_set --json=results/growth/data_set.json --out=results/growth
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import own_memory, timing
from infusion_jax import datasets
from infusion_jax.config import Config
from infusion_jax.drawing import line_plots, markdown, plots
from infusion_jax.storage import files, provenance
from infusion_jax.training import feeds, programs
from infusion_jax.training.state import initial_state, make_recipe, make_run

Numbers = dict[str, Any]

COUNTS = (30_000, 100_000, 300_000, 1_000_000)
SHAPE = (32, 32, 3)
CONFIG = Config.from_dict(
  {
    "data": {"name": "random", "source": "npy", "stream": "always"},
    "model": {"hidden_sizes": (64,)},
    "chain": {"num_steps": 1},
    "train": {"batch_size": 128},
  }
)
#: Blocks that are timed, after one that is not.
_BLOCKS = 3


class Training:
  """Training on a folder's images.

  Attributes:
    images: [N, H, W, C] uint8.
    feed: what hands them to the device.
    state: after the steps taken so far.
  """

  def __init__(self, folder: pathlib.Path, stream: str) -> None:
    """Compiles nothing yet.

    Args:
      folder: of .npy files.
      stream: see `feeds.make`.
    """
    dataset = datasets.load("random", "npy", str(folder))
    self.images = dataset.train
    recipe, self._run = make_recipe(CONFIG, dataset), make_run(CONFIG, dataset)
    self.feed = feeds.make(stream, recipe, self._run, self.images)
    self.state = initial_state(recipe, self._run.key)

  def advance(self, steps: int) -> None:
    """Takes so many steps."""
    while steps:
      self.state, taken = self.feed.advance(self.state, steps)
      steps -= taken
    self.state.failed.block_until_ready()

  def shuffle(self) -> None:
    """Makes the permutation of an epoch."""
    order = jax.jit(programs.epoch_order, static_argnums=2)
    order(self._run.key, 0, len(self.images)).block_until_ready()


def write(folder: pathlib.Path, count: int) -> None:
  """Random images, part by part.

  Args:
    folder: for `train.npy`, `validation.npy` and `test.npy`; made.
    count: of the training images.
  """
  folder.mkdir(parents=True)
  part = np.random.default_rng(0).integers(0, 256, (1000, *SHAPE), np.uint8)
  open_memmap = np.lib.format.open_memmap
  train = open_memmap(folder / "train.npy", "w+", np.uint8, (count, *SHAPE))
  for number, first in enumerate(range(0, count, len(part))):
    train[first : first + len(part)] = (part + np.uint8(number % 256))[: count - first]
  np.save(folder / "validation.npy", part[:2])
  np.save(folder / "test.npy", part[:2])


def measure(folder: pathlib.Path, count: int) -> Numbers:
  """Time and memory of some blocks, in this process.

  Args:
    folder: to write the images to; must not exist.
    count: of the images.
  """
  write(folder, count)
  with own_memory.watched() as seen:
    began = time.perf_counter()
    training = Training(folder, "always")
    prior_seconds = time.perf_counter() - began
    steps = training.feed.steps
    training.advance(steps)
    began, worked = time.perf_counter(), time.process_time()
    training.advance(_BLOCKS * steps)
    seconds = time.perf_counter() - began
    worked = time.process_time() - worked
    training.feed.close()
  began = time.perf_counter()
  training.shuffle()
  return {
    "images": count,
    "bytes": training.images.nbytes,
    "step_seconds": seconds / (_BLOCKS * steps),
    "step_processor_seconds": worked / (_BLOCKS * steps),
    "steps_of_a_block": steps,
    "prior_seconds": prior_seconds,
    "shuffle_seconds": time.perf_counter() - began,
    "peak_bytes": max(seen),
  }


def compare(folder: pathlib.Path, count: int, rounds: int) -> Numbers:
  """Steps on images that are read beside steps on images that lie on the device."""
  write(folder, count)
  ways = {stream: Training(folder, stream) for stream in ("always", "never")}
  steps = ways["always"].feed.steps
  work = {name: (lambda way=way: way.advance(steps)) for name, way in ways.items()}
  times = timing.take_turns(work, rounds, what="streamed and resident")
  for way in ways.values():
    way.feed.close()
  return {
    "images": count,
    "rounds": rounds,
    "streamed_step_seconds": times.median("always") / steps,
    "resident_step_seconds": times.median("never") / steps,
    "ratio": times.ratio("always", "never"),
  }


def _measured_apart(count: int) -> Numbers:
  command = [sys.executable, "-m", "benchmarks.data_set", f"--count={count}"]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return json.loads(done.stdout)


def figure(rows: list[Numbers]) -> np.ndarray:
  """Memory against the size of the set; see `line_plots.curves`."""
  images = [row["images"] for row in rows]
  return line_plots.curves(
    {
      "the images": (images, [row["bytes"] / 2**20 for row in rows]),
      "the process": (images, [row["peak_bytes"] / 2**20 for row in rows]),
    },
    "training images, 32x32x3",
    "MiB",
    title="Memory of training, images read block by block",
    logarithmic="xy",
  )


def main(argv: list[str]) -> None:
  """Measures, prints, writes numbers and figure."""
  del argv
  values = flags.FLAGS
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name) / "images"
    if values.count:
      print(json.dumps(measure(folder, values.count)))
      return
    found = {"ways": compare(folder, COUNTS[0], values.rounds)}
  rows = [_measured_apart(count) for count in COUNTS]
  headers = list(rows[0])
  print(markdown.table(headers, [[row[key] for key in headers] for row in rows]))
  print(found["ways"])
  if values.json:
    files.write_json(
      pathlib.Path(values.json),
      {"sizes": rows, **found, "about": provenance.describe()},
    )
  if values.out:
    plots.save(pathlib.Path(values.out) / "data_set.png", figure(rows))


if __name__ == "__main__":
  # Not at the top: a module that is imported must not define flags for others.
  flags.DEFINE_string("json", None, "File to write the numbers to.")
  flags.DEFINE_string("out", None, "Folder for the figure data_set.png.")
  flags.DEFINE_integer("count", 0, "Only this size, in this process; 0: all of them.")
  flags.DEFINE_integer("rounds", 9, "Rounds of turns.", lower_bound=1)
  app.run(main)
