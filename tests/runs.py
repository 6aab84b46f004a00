"""Small runs for the tests of training: seconds each, nothing to download."""

import pathlib

import numpy as np

from infusion_jax.config import (
  ChainConfig,
  Config,
  DataConfig,
  ModelConfig,
  TrainConfig,
)
from infusion_jax.datasets import Dataset


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
