"""Small runs for the tests of training: seconds each, nothing to download."""

import contextlib
import os
import pathlib
import signal
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax.chain import Parameters
from infusion_jax.config import (
  ChainConfig,
  Config,
  DataConfig,
  ModelConfig,
  TrainConfig,
)
from infusion_jax.datasets import Dataset
from infusion_jax.sweep import vmapped
from infusion_jax.terminal import training_log
from infusion_jax.training import epochs
from infusion_jax.training.state import make_recipe, make_run


def dataset(count: int = 70) -> Dataset:
  """Random 4x4 images of 17 levels: 70 training images by default."""
  generator = np.random.default_rng(0)

  def images(size: int) -> np.ndarray:
    return generator.integers(0, 17, (size, 4, 4, 1), dtype=np.uint8)

  return Dataset("tiny", images(count), images(20), images(20), levels=17)


def config(**train: object) -> Config:
  """A network of one hidden layer of 8 units, T = 3, batches of 16."""
  settings = {
    "batch_size": 16,
    "num_epochs": 3,
    "monitor_images": 20,
    "preview_every": 0,
    **train,
  }
  return Config(
    data=DataConfig(name="tiny"),
    model=ModelConfig(hidden_sizes=(8,)),
    chain=ChainConfig(num_steps=3, omega=0.1),
    train=TrainConfig(**settings),
  )


def group_shapes(made: Config, data: Dataset) -> Parameters:
  """Shapes of what two such runs, trained as one program, have after a step."""
  stack = vmapped.stack([make_run(made, data)] * 2)
  group = vmapped.compiled(make_recipe(made, data), stack.axes, None)
  before = jax.eval_shape(group.initial_state, stack.keys)
  images = jnp.zeros((2 * made.train.batch_size, *data.image_shape), jnp.uint8)
  after = jax.eval_shape(group.train_steps, before, stack.run, images, 1, None)
  assert jax.tree.structure(after) == jax.tree.structure(before)
  return after.parameters


@contextlib.contextmanager
def signal_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
  """A signal comes when the log is told of so many steps, which it is one by one."""
  taken = []

  def steps(log: training_log.Lines, count: int, seconds: float) -> None:
    taken.append(count)
    if sum(taken) == step:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(training_log.Lines, "steps", steps)
    patch.setattr(epochs.Training, "chunk_seconds", 0.0)
    yield


def rows(workdir: pathlib.Path) -> str:
  """The metrics a run has written."""
  return (workdir / "metrics.jsonl").read_text()


def assert_same_rows(found: list[dict], expected: list[dict]) -> None:
  """Rows of metrics that devices have added up in another order: equal to 1e-5."""
  assert len(found) == len(expected)
  for row, other in zip(found, expected, strict=True):
    assert row.keys() == other.keys()
    for name, value in other.items():
      if isinstance(value, float):
        np.testing.assert_allclose(row[name], value, rtol=1e-5, atol=1e-6)
      else:
        assert row[name] == value
