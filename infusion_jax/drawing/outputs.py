"""Where a launcher's images go: a picture, an array file, or a folder of images."""

import io
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.storage.files import StrPath

_NAME = re.compile(r"seed_\d{10}\.png")


def is_folder(path: str) -> bool:
  """Whether an output path means a folder: a name without extension, or "/" last."""
  return (
    path.endswith("/") or not pathlib.Path(path).suffix or pathlib.Path(path).is_dir()
  )


def check(path: str, suffixes: Sequence[str], folder: bool = False) -> None:
  """Finds before any work is done whether results can be written.

  Args:
    path: the file or folder.
    suffixes: extensions that are allowed.
    folder: whether it may be a folder of images.

  Raises:
    UserError: another extension; a folder that holds other things; or a place
      that is no folder.
  """
  place = pathlib.Path(path)
  if folder and is_folder(path):
    _check_folder(place)
  elif place.is_dir() or place.suffix.lower() not in suffixes:
    allowed = [f"a name ending in {' or '.join(suffixes)}"]
    allowed += ["a folder of images (a name without extension)"] * folder
    raise UserError(f"cannot write to {path!r}; allowed is {', or '.join(allowed)}")
  above = next(parent for parent in place.absolute().parents if parent.exists())
  if not above.is_dir():
    raise UserError(f"cannot write to {path!r}: {above} is not a folder")


def file_name(text: str) -> str:
  """A text as the name of a file: letters, digits, dots, dashes and underscores."""
  return "_".join("".join(c if c.isalnum() or c in ".-" else " " for c in text).split())


def save_arrays(path: StrPath, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes a .npz file, whole or not at all.

  Raises:
    UserError: a place one cannot write to.
  """
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  files.save_bytes(path, buffer.getvalue())


def save_folder(path: StrPath, images: np.ndarray, seeds: Sequence[int]) -> None:
  """Writes image i [H, W, C] as `seed_<seeds[i]>.png`, pixel for pixel.

  Images of other seeds that are there already stay.

  Raises:
    UserError: the folder holds other things, or cannot be written to.
  """
  folder = pathlib.Path(path)
  _check_folder(folder)
  for seed, image in zip(seeds, images, strict=True):
    plots.save(folder / f"seed_{seed:010d}.png", plots.to_uint8(image))


def _check_folder(folder: pathlib.Path) -> None:
  if folder.exists() and not folder.is_dir():
    raise UserError(f"{folder} is a file; allowed is a folder")
  others = [p.name for p in folder.glob("*") if not _NAME.fullmatch(p.name)]
  if others:
    raise UserError(
      f"folder {folder} holds other things ({min(others)}); allowed is a new or"
      " empty folder, or one of images by seed"
    )
