"""What every source returns: three splits of images and their grey levels."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from infusion_jax.errors import UserError
from infusion_jax.pixels import BITS

SPLITS = ("train", "validation", "test")
MAX_LEVELS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Three splits of images, all of one shape.

  Attributes:
    name: What messages call the data set.
    train: Training images, uint8 [N, H, W, C].
    validation: Validation images, uint8 [N, H, W, C].
    test: Test images, uint8 [N, H, W, C].
    levels: How many grey levels a pixel can take; values are 0 to levels - 1. Bits,
      which are 0 and 1, have `pixels.BITS`.
    labels: Which class each image belongs to, by split, int32 [N] from 0; None where
      labels were not asked for.

  Raises:
    UserError: A split is empty, is not uint8 [N, H, W, C], has another image shape than
      the training split, another number of labels than images, or holds a value that
      `levels` rules out.
  """

  name: str
  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  levels: int = MAX_LEVELS
  labels: Mapping[str, np.ndarray] | None = None

  def __post_init__(self) -> None:
    if self.levels != BITS:
      check_levels(self.levels, f"dataset {self.name!r}")
    for split in SPLITS:
      images = getattr(self, split)
      where = f"dataset {self.name!r}: split {split!r}"
      _check_images(images, where)
      _check_values(images, max(self.levels, 2), where)
      if images.shape[1:] != self.image_shape:
        raise UserError(
          f"{where} has images of shape {images.shape[1:]}, the training split"
          f" has {self.image_shape}; all splits must agree"
        )
      if self.labels is not None and len(self.labels[split]) != len(images):
        raise UserError(
          f"{where} has {len(images)} images and {len(self.labels[split])} labels;"
          " their numbers must agree"
        )

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of every image."""
    height, width, channels = self.train.shape[1:]
    return (height, width, channels)

  def split(self, name: str) -> np.ndarray:
    """Returns the images of one split, uint8 [N, H, W, C].

    Raises:
      UserError: There is no split of this name.
    """
    if name not in SPLITS:
      raise UserError(f"split is {name!r}; allowed are {', '.join(SPLITS)}")
    return getattr(self, name)

  def labels_of(self, name: str) -> np.ndarray | None:
    """Returns the labels of one split, int32 [N], or None if there are none."""
    return None if self.labels is None else self.labels[name]


def check_levels(levels: int, where: str) -> None:
  """Checks a number of grey levels that a file or a caller gives.

  Raises:
    UserError: Pixels with so many levels do not fit in uint8.
  """
  if not 2 <= levels <= MAX_LEVELS:
    raise UserError(f"{where}: levels is {levels}; allowed are 2 to {MAX_LEVELS}")


def _check_images(images: np.ndarray, where: str) -> None:
  if images.dtype != np.uint8:
    raise UserError(f"{where} has dtype {images.dtype}; allowed is uint8")
  if images.ndim != 4:
    raise UserError(f"{where} has shape {images.shape}; allowed is [N, H, W, C]")
  if images.size == 0:
    raise UserError(
      f"{where} has shape {images.shape}; at least one image of at least one"
      " pixel is needed"
    )


def _check_values(images: np.ndarray, levels: int, where: str) -> None:
  if levels == MAX_LEVELS:
    return  # No integer of 8 bits is larger, and large files need not be read.
  highest = int(images.max())
  if highest >= levels:
    raise UserError(
      f"{where} holds the value {highest}; with {levels} levels allowed are 0"
      f" to {levels - 1}"
    )
