"""What every source returns: three splits of images and their grey levels."""

import dataclasses

import numpy as np

from infusion_jax.errors import UserError

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
    levels: How many grey levels a pixel can take; values are 0 to levels - 1.

  Raises:
    UserError: A split is empty, is not uint8 [N, H, W, C], has another image
      shape than the training split or holds a value that `levels` rules out.
  """

  name: str
  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray
  levels: int = MAX_LEVELS

  def __post_init__(self) -> None:
    check_levels(self.levels, f"dataset {self.name!r}")
    for split in SPLITS:
      images = getattr(self, split)
      where = f"dataset {self.name!r}: split {split!r}"
      _check_images(images, where)
      _check_values(images, self.levels, where)
      if images.shape[1:] != self.image_shape:
        raise UserError(
          f"{where} has images of shape {images.shape[1:]}, the training split"
          f" has {self.image_shape}; all splits must agree"
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
  highest = int(images.max())
  if highest >= levels:
    raise UserError(
      f"{where} holds the value {highest}; with {levels} levels allowed are 0"
      f" to {levels - 1}"
    )
