"""How a picture of any size and mode becomes an array of the data set's shape."""

import dataclasses

import numpy as np
from PIL import Image

from infusion_jax.errors import UserError

FITS = ("crop", "stretch")


@dataclasses.dataclass(frozen=True)
class Geometry:
  """What is done to every picture, in this order.

  Attributes:
    crop: Side in pixels of the square cut from the middle; 0: none.
    size: Side in pixels of the result; 0: as it is then.
    fit: For pictures that are not square: "crop" brings the shorter side to
      `size` and keeps the middle, "stretch" brings both sides to it.
    grey: Grey, one channel; else colour, three.

  Raises:
    UserError: A value is none of these.
  """

  crop: int = 0
  size: int = 0
  fit: str = "crop"
  grey: bool = False

  def __post_init__(self) -> None:
    for name in ("crop", "size"):
      if getattr(self, name) < 0:
        raise UserError(f"data.{name} is {getattr(self, name)}; it must be at least 0")
    if self.fit not in FITS:
      raise UserError(f"data.fit is {self.fit!r}; allowed are {', '.join(FITS)}")

  def apply(self, image: Image.Image) -> np.ndarray:
    """Returns the picture as uint8 [H, W, C]; resizing filters with Lanczos.

    Raises:
      ValueError: The picture is smaller than `crop`, or has pixels of more than
        16 bits.
    """
    image = self._cropped(_eight_bits(image).convert("L" if self.grey else "RGB"))
    if self.size:
      image = self._resized(image)
    array = np.asarray(image)
    return array[..., None] if self.grey else array

  def _cropped(self, image: Image.Image) -> Image.Image:
    if not self.crop:
      return image
    if min(image.size) < self.crop:
      width, height = image.size
      raise ValueError(f"is {height}x{width}, too small for data.crop = {self.crop}")
    return image.crop(_middle(image.size, (self.crop, self.crop)))

  def _resized(self, image: Image.Image) -> Image.Image:
    wanted = (self.size, self.size)
    if image.size == wanted:
      return image
    if self.fit == "stretch":
      box = None
    else:
      side = min(image.size)
      box = _middle(image.size, (side, side))
    return image.resize(wanted, Image.Resampling.LANCZOS, box=box)


def _middle(
  size: tuple[int, int], wanted: tuple[int, int]
) -> tuple[int, int, int, int]:
  """Returns left, upper, right and lower of a window in the middle."""
  left, upper = ((have - want) // 2 for have, want in zip(size, wanted, strict=True))
  return left, upper, left + wanted[0], upper + wanted[1]


def _eight_bits(image: Image.Image) -> Image.Image:
  """Returns the picture with at most 8 bits a channel.

  Pillow would clip 16-bit grey instead of scaling it, and warns of palettes with
  transparency unless they take this detour.
  """
  if image.mode.startswith("I;16"):
    return Image.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
  if image.mode in ("I", "F"):
    raise ValueError(f"has pixels of mode {image.mode}; allowed are 8 and 16 bits")
  if image.mode == "P":
    return image.convert("RGBA")
  return image
