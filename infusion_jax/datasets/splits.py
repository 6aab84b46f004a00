"""Splits for data that come without them, the same on every machine."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from infusion_jax.datasets.dataset import SPLITS
from infusion_jax.errors import UserError

MAX_VALIDATION = 10_000
Rows = TypeVar("Rows", bound=Sequence | np.ndarray)


def carve_validation(images: Rows, where: str) -> tuple[Rows, Rows]:
  """Cuts a validation split off the end of the training images.

  It takes the last sixth, at most 10,000 and at least one image: 10,000 of
  MNIST's 60,000.

  Args:
    images: Training images [N, ...], or anything else that can be sliced.
    where: What an error message calls them.

  Returns:
    Training images [N - n, ...] and validation images [n, ...], as slices.

  Raises:
    UserError: There are fewer than two images.
  """
  if len(images) < 2:
    raise UserError(
      f"{where} has {len(images)} images; training and validation need at least 2"
    )
  count = max(1, min(len(images) // 6, MAX_VALIDATION))
  return images[:-count], images[-count:]


def split_shuffled(
  images: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Splits images 70 : 10 : 20 after a fixed permutation; see `split_ordered`."""
  return split_ordered(images[fixed_permutation(len(images))], where)


def split_ordered(images: Rows, where: str) -> tuple[Rows, Rows, Rows]:
  """Splits images 70 : 10 : 20 in the order they have.

  Validation gets a tenth and test a fifth, both rounded up: 1,257, 180 and 360
  of 1,797 images.

  Args:
    images: All images [N, ...], or anything else that can be sliced.
    where: What an error message calls them.

  Returns:
    Training, validation and test images, as slices.

  Raises:
    UserError: There are fewer than three images.
  """
  total = len(images)
  if total < 3:
    raise UserError(f"{where} has {total} images; three splits need at least 3")
  validation, test = -(-total // 10), -(-total // 5)
  train = total - validation - test
  return images[:train], images[train : train + validation], images[-test:]


def most_images(max_images: int) -> dict[str, int | None]:
  """Returns how many images each split may have; 0 allows all (None).

  Of the training images as many as said, of the others a fifth of that, at least
  one.
  """
  if not max_images:
    return dict.fromkeys(SPLITS)
  others = max(1, max_images // 5)
  return {"train": max_images, "validation": others, "test": others}


def fixed_permutation(size: int) -> np.ndarray:
  """Returns one permutation of `range(size)`, int64 [size].

  It sorts the raw words of a bit generator: NumPy keeps those streams fixed
  across versions, but not the ones of `Generator.permutation`.
  """
  return np.argsort(np.random.PCG64(0).random_raw(size), kind="stable")


def fixed_uniform(size: int, stream: int = 0) -> np.ndarray:
  """Returns the same uniform numbers in [0, 1) everywhere, float64 [size].

  Their 53 bits are the upper ones of a bit generator's raw words; see
  `fixed_permutation`. Each stream has other numbers.
  """
  return (np.random.PCG64(stream).random_raw(size) >> np.uint64(11)) * 2.0**-53
