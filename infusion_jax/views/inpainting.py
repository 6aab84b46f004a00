"""Inpainting as a person asks for it: an image, what is known of it, restarts.

The model sees the integer v of a file as v / levels (see `pixels`). `shown` is the
way back: what was known comes out of a written file with the very bytes it had.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image, ImageOps

from infusion_jax.drawing import plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.errors import UserError
from infusion_jax.model import Model, keys_of
from infusion_jax.pixels import BITS
from infusion_jax.storage.files import StrPath

#: The parts of an image that can be kept, as slices of rows and columns in quarters.
PARTS = {
  "top": ((0, 2), (0, 4)),
  "bottom": ((2, 4), (0, 4)),
  "left": ((0, 4), (0, 2)),
  "right": ((0, 4), (2, 4)),
  "center": ((1, 3), (1, 3)),
}


class Completions(NamedTuple):
  """Completions of R images, K of each.

  Attributes:
    starts: [R, H, W, C], z^(0) of the first chain of each image.
    images: [R, K, H, W, C], known pixels bit-identical to the originals'.
  """

  starts: np.ndarray
  images: np.ndarray


def complete(
  model: Model,
  key: jax.Array,
  originals: np.ndarray,
  known: np.ndarray,
  restarts: int,
  *,
  numbers: Sequence[int] | None = None,
  num_steps: int | None = None,
) -> Completions:
  """Completes every image several times (figure 3.6).

  Args:
    model: the model.
    key: one key; restart k of image n takes `fold_in(fold_in(key, n), k)`.
    originals: [R, H, W, C] in [0, 1].
    known: bool [H, W].
    restarts: K.
    numbers: n of each image; by default 0 ... R - 1.
    num_steps: length of the chain; by default as trained.

  Returns:
    Where the chains start and end.
  """
  keys = keys_of(key, range(len(originals)) if numbers is None else numbers)
  keys = jax.vmap(lambda one: keys_of(one, range(restarts)))(keys)
  repeated = np.repeat(originals, restarts, axis=0)
  chains = model.inpaint_chain(keys.reshape(-1), repeated, known, num_steps=num_steps)
  ends = np.where(known[..., None], repeated, chains.means[:, -1])
  return Completions(
    chains.states[::restarts, 0], ends.reshape(-1, restarts, *model.image_shape)
  )


def panel(
  originals: np.ndarray,
  found: Completions,
  levels: int,
  title: str = "test image",
  scale: int | None = None,
) -> Picture:
  """Draws images, where their chains started, and how these ended (figure 3.6)."""
  parts = (shown(part, levels) for part in (originals, *found))
  titles = (title, "start", "completions")
  return plots.inpainting(*parts, titles=titles, scale=scale)


def part(name: str, image_shape: tuple[int, int, int]) -> np.ndarray:
  """Which pixels are known: bool [H, W].

  Args:
    name: one of `PARTS`: a half of the image, or the middle half of both sides.
    image_shape: (H, W, C).

  Raises:
    UserError: there is no such part, or the image is too small to be parted.
  """
  if name not in PARTS:
    raise UserError(f"keep is {name!r}; allowed are {', '.join(PARTS)}")
  known = np.zeros(image_shape[:2], bool)
  bounds = [
    [quarter * size // 4 for quarter in quarters]
    for quarters, size in zip(PARTS[name], image_shape[:2], strict=True)
  ]
  known[slice(*bounds[0]), slice(*bounds[1])] = True
  return _checked(known, f"keep = {name!r}")


def read_image(
  path: StrPath, image_shape: tuple[int, int, int], levels: int
) -> np.ndarray:
  """Reads a PNG, JPEG or other picture as an image of the model.

  It is cut to the model's proportions around its centre, resized, and turned to
  grey or colour. Transparent parts become black.

  Args:
    path: the file.
    image_shape: (H, W, C), C = 1 or 3.
    levels: grey levels of the model's images.

  Returns:
    [H, W, C] float32 in [0, 1).

  Raises:
    UserError: the file is missing, or no picture of 8 or 16 bits.
  """
  picture = _fitted(_opened(path), image_shape, Image.Resampling.LANCZOS)
  picture = picture.convert("L" if image_shape[2] == 1 else "RGB")
  values = np.asarray(picture, np.float64).reshape(image_shape)
  if levels == BITS:
    return (values >= 128).astype(np.float32)
  return (values * ((levels - 1) / (255 * levels))).astype(np.float32)


def read_mask(
  path: StrPath, image_shape: tuple[int, int, int], pictures: Sequence[StrPath] = ()
) -> np.ndarray:
  """Reads a mask, white where pixels are known: bool [H, W].

  It has the model's proportions, or the size of the pictures it is for, and is
  cut and resized as `read_image` does; half white or more counts as white.

  Args:
    path: the file.
    image_shape: (H, W, C) of the model.
    pictures: files that the mask is for.

  Raises:
    UserError: the file is missing, no picture, of another size, or all of one kind.
  """
  picture = _opened(path)
  _check_size(picture, image_shape, path, pictures)
  picture = _fitted(picture, image_shape, Image.Resampling.BOX)
  return _checked(np.asarray(picture.convert("L")) >= 128, f"mask {path}")


def _check_size(
  mask: Image.Image,
  image_shape: tuple[int, int, int],
  path: StrPath,
  pictures: Sequence[StrPath],
) -> None:
  """Raises a UserError where a mask would be cut otherwise than what it is for."""
  height, width, _ = image_shape
  if mask.width * height == mask.height * width:
    return
  if not pictures or any(_opened(file).size != mask.size for file in pictures):
    raise UserError(
      f"mask {path} is {mask.height}x{mask.width}; allowed are {height}x{width}, other"
      " sizes of these proportions, and the size of the pictures it is for"
    )


def shown(images: np.ndarray, levels: int) -> np.ndarray:
  """Images of the model for drawing: 0 is black, (levels - 1) / levels white.

  Bits are 0 and 1 already.
  """
  white = 1.0 if levels == BITS else (levels - 1) / levels
  return np.clip(np.asarray(images, np.float64) / white, 0.0, 1.0)


def _checked(known: np.ndarray, where: str) -> np.ndarray:
  if known.all() or not known.any():
    kind = "all" if known.any() else "no"
    raise UserError(
      f"{where} makes {kind} pixels known; allowed are some known and some unknown"
    )
  return known


def _opened(path: StrPath) -> Image.Image:
  """The picture upright, grey or colour of 8 bits a channel."""
  try:
    with Image.open(path) as file:
      picture = ImageOps.exif_transpose(file)
      picture.load()
  except FileNotFoundError as error:
    raise UserError(f"{path} does not exist; allowed is a PNG or JPEG file") from error
  except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
    raise UserError(
      f"{path} cannot be read as a picture; allowed is a PNG or JPEG file"
    ) from error
  if picture.mode.startswith("I;16"):
    # Pillow would clip these values instead of scaling them.
    picture = Image.fromarray((np.asarray(picture, np.uint16) >> 8).astype(np.uint8))
  if picture.mode in ("I", "F"):
    raise UserError(
      f"{path} is of mode {picture.mode}; allowed are 8 or 16 bits, grey or colour"
    )
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    picture = Image.alpha_composite(black, picture)
  return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _fitted(
  picture: Image.Image, image_shape: tuple[int, int, int], method: Image.Resampling
) -> Image.Image:
  height, width, _ = image_shape
  if picture.size == (width, height):
    return picture
  return ImageOps.fit(picture, (width, height), method)
