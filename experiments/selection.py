"""Which seeds, images and data a command line asks for."""

import dataclasses

import jax
import numpy as np

from infusion_jax import datasets
from infusion_jax.datasets import Dataset
from infusion_jax.datasets.dataset import SPLITS
from infusion_jax.errors import UserError
from infusion_jax.model import Model, keys_of

_MOST = 1_000_000


def parse_numbers(text: str, flag: str) -> list[int]:
  """The numbers that "0-3,7" names: [0, 1, 2, 3, 7].

  Raises:
    UserError: the text is not a list of numbers and ranges.
  """
  numbers: list[int] = []
  for part in text.split(","):
    first, dash, last = part.strip().partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal()):
      raise UserError(
        f"--{flag} is {text!r}; allowed are forms like 5, 0-63 and 1,4,9-12"
      )
    low, high = int(first), int(last)
    if not low <= high < 2**32:
      raise UserError(f"--{flag} has {part!r}; ranges run upwards and stay below 2**32")
    if len(numbers) + high - low >= _MOST:
      raise UserError(f"--{flag} is {text!r}; at most {_MOST} numbers are allowed")
    numbers.extend(range(low, high + 1))
  return numbers


def parse_images(text: str, flag: str) -> tuple[str, list[int]]:
  """The split and the numbers that "test:0-9" names.

  Raises:
    UserError: there is no split of this name, or no list of numbers.
  """
  split, colon, numbers = text.partition(":")
  if not colon or split not in SPLITS:
    raise UserError(
      f"--{flag} is {text!r}; allowed are a split and numbers, such as test:0-9"
      f" (splits are {', '.join(SPLITS)})"
    )
  return split, parse_numbers(numbers, flag)


def load_dataset(model: Model, path: str | None = None) -> Dataset:
  """The data set a model was trained on, at `path` if it has moved.

  Raises:
    UserError: it cannot be read, or its images are of another size.
  """
  data = model.config.data
  data = dataclasses.replace(data, path=path or data.path)
  dataset = datasets.from_config(data, model.num_classes)
  if dataset.image_shape != model.image_shape:
    raise UserError(
      f"data set {dataset.name} has images of shape {dataset.image_shape}; the model"
      f" in {model.path} takes {model.image_shape}"
    )
  return dataset


def select(dataset: Dataset, split: str, numbers: list[int]) -> np.ndarray:
  """Images of a split by number, [B, H, W, C] float32 in [0, 1).

  Raises:
    UserError: the split has fewer images.
  """
  images = dataset.split(split)
  if max(numbers) >= len(images):
    raise UserError(
      f"{split}:{max(numbers)} is not in the data set {dataset.name}; its split"
      f" {split} has images 0 to {len(images) - 1}"
    )
  return (images[numbers] / dataset.levels).astype(np.float32)


def keys(numbers: list[int]) -> jax.Array:
  """One key per seed or image number, the same whatever others are asked for."""
  return keys_of(jax.random.key(0), numbers)
