"""Ended at any moment, any number of times, a run ends with the very same bits."""

import collections
import os
import pathlib
import signal
import time

import jax
import launching
import numpy as np
import pytest
from launching import tree
from reliability import processes

import infusion_jax
from infusion_jax import datasets
from infusion_jax.storage import checkpoints
from infusion_jax.training import metrics_log, snapshot, workdir
from infusion_jax.training.state import make_recipe, make_run

#: When to kill: while starting or compiling, after some time of training, while
#: a checkpoint, a picture or a line of metrics is being written.
MOMENTS = ("start", "any time", "save", "picture", "metrics")

#: What ends the process, one after another: signals that ask it to save (two: at
#: once), that end it wherever it is, or that stop it first.
ENDS = (
  [signal.SIGKILL],
  [signal.SIGTERM],
  [signal.SIGABRT],
  [signal.SIGINT, signal.SIGTERM],
  [signal.SIGHUP],
  [signal.SIGQUIT],
  [signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL],
)


def train(folder: pathlib.Path, num_epochs: int) -> None:
  """Trains to the end, undisturbed."""
  flag = f"--config.train.num_epochs={num_epochs}"
  process = processes.start(folder, flag, **launching.WRITING)
  _, err = process.communicate(timeout=1800)
  assert process.returncode == 0, err


def train_and_kill(
  folder: pathlib.Path, num_epochs: int, moments: tuple[str, ...], seed: int
) -> collections.Counter:
  """Launches and kills again and again; how often at which moment."""
  random, killed = np.random.default_rng(seed), collections.Counter()
  for moment in moments:
    process = processes.start(folder, f"--config.train.num_epochs={num_epochs}")
    _wait(folder, moment, process, random)
    if process.poll() is not None:
      _, err = process.communicate()
      assert process.returncode == 0, err
      break
    for number in ENDS[killed.total() % len(ENDS)]:
      process.send_signal(number)
    process.communicate()
    killed[moment] += 1
  return killed


def _wait(folder: pathlib.Path, moment: str, process, random) -> None:
  """Returns when it is time, or when the process has ended by itself."""
  if moment == "start":
    time.sleep(random.uniform(0.2, 6.0))
    return
  before = processes.epochs(folder)

  def trained() -> bool:
    return processes.epochs(folder) >= before + 1

  _poll(process, trained)
  if moment == "any time":
    time.sleep(random.uniform(0.0, 1.0))
    return
  signs = {
    "save": lambda: _any(folder / "checkpoints", "tmp"),
    "picture": lambda: _any(folder / "samples", ".tmp"),
    "metrics": _grown(folder / metrics_log.FILE),
  }
  _poll(process, signs[moment])
  time.sleep(random.uniform(0.0, 0.05))


def _poll(process, sign) -> None:
  while process.poll() is None and not sign():
    time.sleep(0.001)


def _any(folder: pathlib.Path, part: str) -> bool:
  try:
    return any(part in path.name for path in folder.iterdir())
  except FileNotFoundError:
    return False


def _grown(path: pathlib.Path):
  size = path.stat().st_size if path.exists() else 0
  return lambda: path.exists() and path.stat().st_size > size


def everything(folder: pathlib.Path):
  """The last checkpoint: whole training state, weights, description."""
  config = workdir.read_config(folder)
  dataset = datasets.from_config(config.data)
  recipe, run = make_recipe(config, dataset), make_run(config, dataset)
  found = checkpoints.Checkpoints(folder)
  step = found.steps()[-1]
  state = snapshot.restore(found, step, recipe, run)
  return step, state, infusion_jax.load(folder).weights, found.about(step)


def assert_same(whole: pathlib.Path, killed: pathlib.Path) -> None:
  for a, b in zip(everything(whole), everything(killed), strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, b)
  assert (whole / metrics_log.FILE).read_bytes() == (
    killed / metrics_log.FILE
  ).read_bytes()
  assert tree(whole / "samples") == tree(killed / "samples")
  rows = metrics_log.read(killed / metrics_log.FILE)
  each = [(row["epoch"], row["split"]) for row in rows]
  assert len(set(each)) == len(each)
  assert not [path for path in killed.rglob("*") if "tmp" in path.name]


def check(
  folder: pathlib.Path, num_epochs: int, moments: tuple[str, ...]
) -> collections.Counter:
  train(folder / "whole", num_epochs)
  killed = train_and_kill(folder / "killed", num_epochs, moments, seed=0)
  assert killed.total() == len(moments), "the run ended before it was killed enough"
  train(folder / "killed", num_epochs)
  assert_same(folder / "whole", folder / "killed")
  return killed


def test_a_kill_while_it_saves_changes_no_bit(tmp_path):
  """The killed training has no end: on a busy machine, too, the kill comes in time."""
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  train_and_kill(killed, num_epochs=100_000, moments=("save",), seed=0)
  num_epochs = processes.epochs(killed) + 2
  for folder in (whole, killed):
    train(folder, num_epochs)
  assert_same(whole, killed)


@pytest.mark.long
def test_seven_ends_change_no_bit(tmp_path):
  """As the kill above, at other moments and by other signals."""
  check(tmp_path, num_epochs=30, moments=(MOMENTS * 2)[: len(ENDS)])


@pytest.mark.slow
@pytest.mark.skipif(
  not os.environ.get("INFUSION_JAX_SOAK"),
  reason="takes twenty minutes or more; INFUSION_JAX_SOAK=1 (make soak) runs it",
)
def test_a_hundred_ends_change_no_bit(tmp_path):
  killed = check(tmp_path, num_epochs=400, moments=MOMENTS * 20)
  print(dict(killed))
