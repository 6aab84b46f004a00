"""Pictures: grids, chain strips, inpainting panels, animations.

Drawing functions are pure and return one picture, a uint8 array [H', W', 3];
`save` writes a file. Images come in as floats in [0, 1] (values
outside are clipped) or as uint8, grey (C = 1) or colour (C = 3), and are enlarged
by whole factors only, so that a pixel stays a sharp square.

Letters in shapes: N images, R rows, T steps, H height, W width, C channels.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from infusion_jax.drawing.tiles import (
  Block,
  Color,
  Picture,
  at_least,
  check_count,
  enlarge,
  panel,
  tile,
  to_pil,
  to_rgb,
)
from infusion_jax.drawing.tiles import to_uint8 as to_uint8
from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.storage.files import StrPath


class Grid(TypedDict, total=False):
  """How a grid is laid out: the keyword arguments of `grid`."""

  columns: int | None
  padding: int | None
  scale: int | None
  background: Color


class Spacing(TypedDict, total=False):
  """Pixels between images (see `grid`) and parts (16); scale as in `grid`."""

  padding: int | None
  gap: int
  scale: int | None


def grid(
  images: ArrayLike,
  columns: int | None = None,
  padding: int | None = None,
  scale: int | None = None,
  background: Color = 255,
) -> Picture:
  """Lays images out row by row, image i in row i // columns.

  Args:
    images: [N, H, W, C].
    columns: images in a row; near-square by default.
    padding: pixels around and between the images; by default half as wide as an
      enlarged pixel, 1 or more.
    scale: whole enlargement; by default for tiles of 64 pixels or a little more,
      less where the picture would be wider than 2000.
    background: grey or (red, green, blue) in 0..255, between and after images.

  Returns:
    [rows · (H · scale + padding) + padding, likewise for columns, 3].

  Raises:
    UserError: images, columns, padding or scale that cannot be drawn.
  """
  tiles = to_rgb(images, "images", "N")
  columns = math.ceil(math.sqrt(len(tiles))) if columns is None else columns
  columns = min(at_least(1, columns, "columns"), len(tiles))
  tiles, padding = enlarge(tiles, columns, scale, padding)
  places = np.empty((-(-len(tiles) // columns) * columns, *tiles.shape[1:]), np.uint8)
  places[:] = background
  places[: len(tiles)] = tiles
  places = places.reshape(-1, columns, *tiles.shape[1:])
  return tile(places, padding, background, border=padding)


def gif(
  chains: ArrayLike, frame_ms: int = 150, hold_ms: int = 2000, **layout: Unpack[Grid]
) -> bytes:
  """Animates chains for ever: frame t is the `grid` of all images at step t.

  Grey frames are exact, colour frames are reduced to 256 colours each; equal
  neighbouring frames are stored once, for the sum of their times.

  Args:
    chains: [T, N, H, W, C].
    frame_ms: milliseconds of a frame, in steps of 10.
    hold_ms: milliseconds of the last frame.
    **layout: arguments of `grid`.

  Returns:
    The content of a GIF file, see `files.save_bytes`.

  Raises:
    UserError: chains that cannot be drawn, or times below 20 ms.
  """
  at_least(20, min(frame_ms, hold_ms), "frame_ms or hold_ms")
  frames = [to_pil(grid(step, **layout)) for step in to_rgb(chains, "chains", "T, N")]
  flat = [f if f.mode == "L" else f.quantize(dither=Image.Dither.NONE) for f in frames]
  times = [frame_ms] * (len(flat) - 1) + [hold_ms]
  buffer = io.BytesIO()
  options = {"save_all": True, "append_images": flat[1:], "duration": times, "loop": 0}
  flat[0].save(buffer, format="GIF", **options)
  return buffer.getvalue()


def strip(
  chains: ArrayLike,
  last: ArrayLike | None = None,
  column_labels: Sequence[str] | None = None,
  row_labels: Sequence[str] | None = None,
  last_label: str = "",
  **spacing: Unpack[Spacing],
) -> Picture:
  """Draws chains, one row a sample, one column a step.

  Where labels would run into each other, only every second, third, … is drawn.

  Args:
    chains: [R, T, H, W, C].
    last: [R, H, W, C], a column set apart, such as the targets.
    column_labels: T labels, such as "t = 0", or "" for none.
    row_labels: R labels, such as "epoch 1".
    last_label: stands over the last column.
    **spacing: see `Spacing`.

  Returns:
    The picture [H', W', 3].

  Raises:
    UserError: images that cannot be drawn, or a wrong number of labels.
  """
  tiles = to_rgb(chains, "chains", "R, T")
  labels = tiles.shape[1] * [""] if column_labels is None else column_labels
  check_count(labels, tiles.shape[1], "column_labels")
  blocks = [Block(tiles, labels)]
  if last is not None:
    blocks.append(Block(to_rgb(last, "last", "R")[:, None], [last_label]))
  rows = None if row_labels is None else [(label,) for label in row_labels]
  return panel(blocks, rows, **spacing)


def neighbors(
  chains: ArrayLike, nearest: ArrayLike, label: str = "nearest", **options: Any
) -> Picture:
  """A `strip` of chains [R, T, H, W, C] and, apart, neighbours [R, H, W, C]."""
  return strip(chains, nearest, last_label=label, **options)


def inpainting(
  originals: ArrayLike,
  starts: ArrayLike,
  results: ArrayLike,
  titles: tuple[str, str, str] = ("test image", "start", "completions"),
  **spacing: Unpack[Spacing],
) -> Picture:
  """Draws test images, where their chains started, and how these ended.

  Args:
    originals: [R, H, W, C], one row a test image.
    starts: [R, H, W, C], the known part kept and noise in the unknown part.
    results: [R, restarts, H, W, C].
    titles: over the three parts.
    **spacing: see `Spacing`.

  Returns:
    The picture [H', W', 3].

  Raises:
    UserError: images that cannot be drawn.
  """
  first = to_rgb(originals, "originals", "R")[:, None]
  second = to_rgb(starts, "starts", "R")[:, None]
  third = to_rgb(results, "results", "R, restarts")
  parts = zip((first, second, third), titles, strict=True)
  return panel([Block(tiles, [title]) for tiles, title in parts], **spacing)


def labelled_rows(
  groups: Mapping[str, ArrayLike] | Mapping[tuple[str, ...], ArrayLike],
  headers: Sequence[str] = (),
  **spacing: Unpack[Spacing],
) -> Picture:
  """Draws a row of images per group, behind one or more columns of labels.

  Example:
    labelled_rows({("15", "0.01"): means}, headers=("T", "ω", "sample means"))

  Args:
    groups: a label, or a tuple of labels -> images [N, H, W, C]; N may differ.
    headers: over each column of labels, then one over the images.
    **spacing: see `Spacing`.

  Returns:
    The picture [H', W', 3].

  Raises:
    UserError: images that cannot be drawn, or wrong numbers of labels or headers.
  """
  rows = [to_rgb(images, f"groups[{key!r}]", "N") for key, images in groups.items()]
  labels = [(key,) if isinstance(key, str) else key for key in groups]
  if len({(len(k), *r.shape[1:]) for k, r in zip(labels, rows, strict=True)}) != 1:
    raise UserError(
      f"groups {list(groups)} differ in labels or image size, or are empty."
    )
  wanted = len(labels[0]) + 1
  headers = headers or wanted * [""]
  check_count(headers, wanted, "headers")
  most = max(map(len, rows))
  tiles = np.full((len(rows), most, *rows[0].shape[1:]), 255, np.uint8)
  for places, row in zip(tiles, rows, strict=True):
    places[: len(row)] = row
  return panel([Block(tiles, headers[-1:])], labels, headers[:-1], **spacing)


def check_path(path: StrPath, allowed: Sequence[str] = (".png",)) -> Path:
  """Returns the path, or raises a UserError if its extension is not allowed."""
  path = Path(path)
  if path.suffix.lower() not in allowed:
    raise UserError(
      f"cannot write {str(path)!r}: its name must end in {' or '.join(allowed)}."
    )
  return path


def save(path: StrPath, picture: Picture) -> None:
  """Writes a uint8 picture [H', W', 3] or [H', W', 1] as PNG, whole or not at all.

  Raises:
    UserError: another extension or kind of array, or a place one cannot write to.
  """
  check_path(path)
  files.save_bytes(path, png(picture))


def png(picture: Picture) -> bytes:
  """A uint8 picture [H', W', 3] or [H', W', 1] as the content of a PNG file.

  Raises:
    UserError: another kind of array.
  """
  if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3):
    raise UserError(
      f"a picture is uint8 [H, W, 1 or 3], not {picture.dtype} {picture.shape}."
    )
  buffer = io.BytesIO()
  to_pil(picture).save(buffer, format="PNG")
  return buffer.getvalue()
