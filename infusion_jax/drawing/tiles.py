"""Layout: tiles, margins and labels, of which `plots` makes its pictures.

A picture is a uint8 array [H', W', 3] on a white ground. Enlargement is by whole
factors only. Letters in shapes are those of `plots`.
"""

import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from infusion_jax.errors import UserError

Picture = NDArray[np.uint8]
Color = int | tuple[int, int, int]

MARGIN = 8  # White pixels around labelled pictures and tables.
_TILE_PIXELS = 64  # The default scale makes a tile at least this high or wide,
_MAX_WIDTH = 2000  # unless the images together would then be wider than this.


def to_uint8(images: ArrayLike, name: str = "images") -> Picture:
  """Returns round(255 · clip(x, 0, 1)) of floats, and uint8 as it is; any shape.

  Raises:
    UserError: a value is NaN, or the type is neither float nor uint8.
  """
  array = np.asarray(images)
  if array.dtype == np.uint8:
    return array
  if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
    raise UserError(f"{name} has dtype {array.dtype}; use a float type or uint8.")
  values = array.astype(np.float32)
  if bad := np.count_nonzero(np.isnan(values)):
    raise UserError(f"{name} has {bad} NaN in {values.size} values; use [0, 1].")
  return np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


class Block(NamedTuple):
  """Images set side by side under labels.

  Attributes:
    tiles: [R, columns, H, W, 3].
    labels: one a column, or one over the whole block.
  """

  tiles: Picture
  labels: Sequence[str]


def panel(
  blocks: Sequence[Block],
  row_labels: Sequence[tuple[str, ...]] | None = None,
  headers: Sequence[str] = (),
  padding: int | None = None,
  gap: int = 16,
  scale: int | None = None,
) -> Picture:
  """Blocks of images side by side, with labels over them and before their rows."""
  if len({(b.tiles.shape[0], *b.tiles.shape[2:]) for b in blocks}) > 1:
    shapes = [b.tiles.shape for b in blocks]
    raise UserError(f"the parts differ in rows or image size: {shapes}.")
  total = sum(block.tiles.shape[1] for block in blocks)
  scaled = [enlarge(block.tiles, total, scale, padding) for block in blocks]
  parts = [tile(tiles, padding) for tiles, padding in scaled]
  padding = scaled[0][1]
  size = text_size(sum(part.shape[1] for part in parts))
  columns = []
  if row_labels is not None:
    check_count(row_labels, len(blocks[0].tiles), "row_labels")
    names = list(zip(*row_labels, strict=True))
    for header, texts in zip(headers or [""] * len(names), names, strict=True):
      labels = draw_labels(texts, len(parts[0]), padding, size, axis=0)
      columns.append(join([draw_text(header, size), labels], axis=0, gap=4, align=1.0))
  for block, part in zip(blocks, parts, strict=True):
    labels = draw_labels(block.labels, part.shape[1], padding, size, axis=1)
    columns.append(join([labels, part], axis=0, gap=4, align=0.5))
  return add_margin(join(columns, axis=1, gap=gap, align=1.0), MARGIN, MARGIN)


def draw_labels(
  texts: Sequence[str], length: int, padding: int, size: int, axis: int
) -> Picture:
  """Texts at equal distances along an axis; every second, third, … if too long.

  The last one is always there.
  """
  pitch = (length + padding) / len(texts)
  room, align = (max(pitch, 6 * size), 0.5) if axis else (math.inf, 1.0)
  wrapped = [wrap(text, room, size) for text in texts]
  pictures = [np.moveaxis(draw_text(t, size, align=align), axis, 0) for t in wrapped]
  length = max(length, *map(len, pictures))
  spans = []
  for i, picture in enumerate(pictures):
    start = round((i + 0.5) * pitch - (padding + len(picture)) / 2)
    start = min(max(start, 0), length - len(picture))
    spans.append((start, start + len(picture)))
  named = [i for i, picture in enumerate(pictures) if picture.size]
  for stride in range(1, len(texts) + 1):
    shown = named[::-stride][::-1]
    if all(spans[i][1] + 6 <= spans[j][0] for i, j in pairwise(shown)):
      break
  out = np.full((length, max(p.shape[1] for p in pictures), 3), 255, np.uint8)
  for i in shown:
    out[slice(*spans[i]), out.shape[1] - pictures[i].shape[1] :] = pictures[i]
  return np.moveaxis(out, 0, axis)


def join(
  pictures: Sequence[Picture], axis: int, gap: int = 0, align: float = 0.0
) -> Picture:
  """Pictures one after another; align is their place across: 0 start, 1 end."""
  pictures = [p for p in pictures if p.size] or list(pictures[:1])
  across = max(p.shape[1 - axis] for p in pictures)
  parts = []
  for index, picture in enumerate(pictures):
    pad = [(0, 0)] * 3
    pad[axis] = (gap if index else 0, 0)
    room = across - picture.shape[1 - axis]
    pad[1 - axis] = (int(room * align), room - int(room * align))
    parts.append(np.pad(picture, pad, constant_values=255))
  return np.concatenate(parts, axis)


def add_margin(picture: Picture, rows: int, columns: int) -> Picture:
  """Adds white rows above and beneath, and white columns on both sides."""
  pad = ((rows, rows), (columns, columns), (0, 0))
  return np.pad(picture, pad, constant_values=255)


def tile(
  tiles: Picture, padding: int, background: Color = 255, border: int = 0
) -> Picture:
  """Tiles [R, columns, H, W, 3] as one picture, with padding between them."""
  rows, columns, height, width, _ = tiles.shape
  down, right = height + padding, width + padding
  shape = (
    rows * down - padding + 2 * border,
    columns * right - padding + 2 * border,
    3,
  )
  out = np.empty(shape, np.uint8)
  out[:] = background
  for row, column in np.ndindex(rows, columns):
    top, left = border + row * down, border + column * right
    out[top : top + height, left : left + width] = tiles[row, column]
  return out


def enlarge(
  tiles: Picture, columns: int, scale: int | None, padding: int | None
) -> tuple[Picture, int]:
  """Enlarged tiles [..., H, W, 3], and the padding; chooses what is None."""
  height, width = tiles.shape[-3:-1]
  if scale is None:
    wanted = math.ceil(_TILE_PIXELS / max(height, width))
    scale = max(1, min(wanted, _MAX_WIDTH // (columns * width)))
  padding = max(1, scale // 2) if padding is None else padding
  at_least(1, scale, "scale")
  at_least(0, padding, "padding")
  return tiles.repeat(scale, axis=-3).repeat(scale, axis=-2), padding


def to_rgb(images: ArrayLike, name: str, axes: str) -> Picture:
  """Images as uint8 of three channels, their shape checked: [axes, H, W, C]."""
  array = np.asarray(images)
  right = array.ndim == axes.count(",") + 4 and array.shape[-1] in (1, 3)
  if not right or not array.size:
    raise UserError(
      f"{name} has shape {array.shape}; give [{axes}, H, W, 1 or 3], none of them 0."
    )
  return np.broadcast_to(to_uint8(array, name), (*array.shape[:-1], 3))


def to_pil(picture: Picture) -> Image.Image:
  """A PIL image, of one channel where the picture is grey."""
  grey = np.all(picture == picture[..., :1])
  return Image.fromarray(np.ascontiguousarray(picture[..., 0] if grey else picture))


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
  """DejaVu Sans, the font of the curves too; it has Greek letters and signs."""
  import matplotlib

  file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
  return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf", file), size)


def text_size(width: int) -> int:
  """A size of letters that stays readable when a wide picture is shown smaller."""
  return min(max(width // 64, 14), 24)


def draw_text(text: str, size: int, bold: bool = False, align: float = 0.5) -> Picture:
  """Lines of black text on white, cut to their width; of no size without text."""
  if not text:
    return np.zeros((0, 0, 3), np.uint8)
  font, lines = _font(size, bold), text.split("\n")
  pitch, widths = sum(font.getmetrics()), [math.ceil(font.getlength(t)) for t in lines]
  image = Image.new("RGB", (max(widths), pitch * len(lines)), "white")
  draw = ImageDraw.Draw(image)
  for index, (line, width) in enumerate(zip(lines, widths, strict=True)):
    draw.text((int(align * (image.width - width)), index * pitch), line, "black", font)
  return np.asarray(image)


def wrap(text: str, width: float, size: int) -> str:
  """Breaks lines between words where they would exceed the width in pixels."""
  lines = []
  for paragraph in text.split("\n"):
    line = ""
    for word in paragraph.split():
      longer = f"{line} {word}".strip()
      if line and _font(size).getlength(longer) > width:
        lines.append(line)
        longer = word
      line = longer
    lines.append(line)
  return "\n".join(lines)


def at_least(least: int, value: int, name: str) -> int:
  """Returns the value, or raises a UserError if it is below `least`."""
  if value < least:
    raise UserError(f"{name} is {value}; it must be at least {least}.")
  return value


def check_count(items: Sequence[Any], count: int, name: str) -> None:
  """Raises a UserError unless there are `count` items."""
  if len(items) != count:
    raise UserError(f"{name} has {len(items)} entries; it needs {count}.")
