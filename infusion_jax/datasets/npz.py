"""NumPy .npz files: everybody's own arrays, and the format of our cache."""

import math
import os
import pathlib
import zipfile
from typing import Any, BinaryIO

import numpy as np

from infusion_jax.datasets import paths, splits
from infusion_jax.datasets.dataset import (
  MAX_LEVELS,
  SPLITS,
  Dataset,
  check_levels,
)
from infusion_jax.errors import UserError

_HEADER_READERS = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}
_KEYS = "'train' and 'test' (and 'validation', 'levels'), or 'images' (and 'levels')"


def load(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> Dataset:
  """Loads a .npz file of images.

  It holds either `train` and `test`, with `validation` or else the last sixth
  of `train` (at most 10,000) in its place, or `images` alone, which is split
  70 : 10 : 20 by a fixed permutation. A scalar `levels` says how many grey
  levels a pixel can take (default 256). Other arrays are ignored; see `labels`.

  Args:
    name: What messages call the data set.
    path: The file.
    cache_dir: Not used; reading is fast.

  Returns:
    Images uint8 [N, H, W, C]; arrays [N, H, W] get one channel.

  Raises:
    UserError: The file is missing or damaged, lacks a key, or holds something
      else than integers from 0 to levels - 1.
  """
  del cache_dir
  file = paths.existing_path(path, "npz")
  arrays = read_arrays(file, ("train", "validation", "test", "images", "levels"))
  levels = _levels(arrays, file)
  images = {
    key: _as_images(array, levels, f"npz file {file}: array {key!r}")
    for key, array in arrays.items()
    if key != "levels"
  }
  return Dataset(name, *_splits(images, file), levels)


def labels(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> dict[str, np.ndarray]:
  """Reads `train_labels`, `test_labels` and `validation_labels`, or `labels`.

  They are named like the arrays of images (`labels` belongs to `images`), and are
  split as these are.

  Returns:
    By split, int32 [N].

  Raises:
    UserError: They are missing, or are not integers [N].
  """
  del name, cache_dir
  file = paths.existing_path(path, "npz")
  names = {f"{split}_labels": split for split in SPLITS} | {"labels": "images"}
  found = read_arrays(file, tuple(names))
  for key, array in found.items():
    if array.ndim != 1 or not array.size:
      raise UserError(
        f"npz file {file}: array {key!r} has shape {array.shape}; allowed is [N]"
      )
  if not found:
    raise UserError(
      f"npz file {file}: has no labels; allowed are {', '.join(sorted(names))}"
    )
  numbers = {names[key]: array.astype(np.int32) for key, array in found.items()}
  return dict(zip(SPLITS, _splits(numbers, file), strict=True))


def read_arrays(path: pathlib.Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
  """Reads those arrays of a .npz file that are in `keys`.

  `numpy.load` allocates whatever an array's header asks for; here no array is
  made before its bytes are there.

  Raises:
    UserError: The file or an array is damaged, or an array is not of integers.
  """
  try:
    with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
      size = os.fstat(stream.fileno()).st_size
      present = set(archive.namelist())
      return {
        key: _read_member(
          archive, f"{key}.npy", size, f"npz file {path}: array {key!r}"
        )
        for key in keys
        if f"{key}.npy" in present
      }
  except UserError:
    raise
  # Damaged zip files make the standard library raise nearly anything.
  except Exception as error:
    raise UserError(
      f"npz file {path}: cannot be read ({paths.one_line(error)})"
    ) from error


def _read_member(
  archive: zipfile.ZipFile, member: str, file_size: int, where: str
) -> np.ndarray:
  info = archive.getinfo(member)
  if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
    raise UserError(f"{where} is packed by method {info.compress_type}; use deflate")
  if info.file_size > file_size * paths.MAX_DEFLATE_RATIO:
    raise UserError(
      f"{where} claims {info.file_size} bytes, more than a file of {file_size}"
      " bytes can hold"
    )
  with archive.open(info) as stream:
    shape, fortran_order, dtype = _read_header(stream, where)
    expected = math.prod(shape) * dtype.itemsize
    data = paths.read_at_most(stream, min(expected, info.file_size))
  if min(shape, default=0) < 0 or len(data) != expected:
    raise UserError(
      f"{where} of shape {shape} and dtype {dtype} needs {expected} bytes, which"
      " is not what its file holds"
    )
  order = "F" if fortran_order else "C"
  return np.frombuffer(data, dtype).reshape(shape, order=order)


def _read_header(
  stream: BinaryIO, where: str
) -> tuple[tuple[int, ...], bool, np.dtype]:
  version = np.lib.format.read_magic(stream)
  if version not in _HEADER_READERS:
    raise UserError(f"{where} has npy version {version}; allowed are (1, 0), (2, 0)")
  shape, fortran_order, dtype = _HEADER_READERS[version](stream)
  if dtype.kind not in "iu":
    hint = "; store integer pixels, not scaled ones" if dtype.kind == "f" else ""
    raise UserError(f"{where} has dtype {dtype}; allowed are integers{hint}")
  return shape, fortran_order, dtype


def _levels(arrays: dict[str, np.ndarray], path: pathlib.Path) -> int:
  levels = arrays.get("levels", np.array(MAX_LEVELS))
  if levels.size != 1:
    raise UserError(
      f"npz file {path}: levels has shape {levels.shape}; allowed is one integer"
    )
  check_levels(levels.item(), f"npz file {path}")
  return levels.item()


def _as_images(array: np.ndarray, levels: int, where: str) -> np.ndarray:
  """Returns integers [N, H, W] or [N, H, W, C] as uint8 [N, H, W, C]."""
  if array.ndim not in (3, 4):
    raise UserError(
      f"{where} has shape {array.shape}; allowed are [N, H, W] and [N, H, W, C]"
    )
  if array.size == 0:
    raise UserError(f"{where} has shape {array.shape}; at least one image is needed")
  lowest, highest = int(array.min()), int(array.max())
  if lowest < 0 or highest >= levels:
    raise UserError(
      f"{where} holds values from {lowest} to {highest}; with {levels} levels"
      f" allowed are 0 to {levels - 1}"
    )
  images = np.ascontiguousarray(array, dtype=np.uint8)
  return images[..., None] if images.ndim == 3 else images


def _splits(
  images: dict[str, np.ndarray], path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  where = f"npz file {path}"
  if set(images) == {"images"}:
    return splits.split_shuffled(images["images"], where)
  if not {"train", "test"} <= set(images) or "images" in images:
    found = ", ".join(images) or "none of them"
    raise UserError(f"{where}: has {found}; allowed are {_KEYS}")
  if "validation" in images:
    return images["train"], images["validation"], images["test"]
  train, validation = splits.carve_validation(images["train"], where)
  return train, validation, images["test"]


def save(stream: BinaryIO, dataset: Dataset) -> None:
  """Writes a data set, uncompressed, in the form that `load` reads."""
  arrays: dict[str, Any] = {
    "train": dataset.train,
    "validation": dataset.validation,
    "test": dataset.test,
    "levels": np.array(dataset.levels),
  }
  np.savez(stream, **arrays)
