"""Folders of MNIST-format idx files, compressed or not."""

import gzip
import math
import pathlib
import struct
import zlib

import numpy as np

from infusion_jax.datasets import paths, splits
from infusion_jax.datasets.dataset import Dataset
from infusion_jax.errors import UserError

IMAGE_MAGIC = 2051
LABEL_MAGIC = 2049
_KINDS = {IMAGE_MAGIC: "an image file", LABEL_MAGIC: "a label file"}
_GZIP_MAGIC = b"\x1f\x8b"


def load(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> Dataset:
  """Loads the training and test images of a folder of idx files.

  Validation is the last sixth of the training file, at most 10,000 images:
  MNIST becomes 50,000 / 10,000 / 10,000. Label files are not read.

  Args:
    name: What messages call the data set.
    path: Folder with `train-images-idx3-ubyte` and `t10k-images-idx3-ubyte`;
      `.idx3` for `-idx3` and an added `.gz` are allowed.
    cache_dir: Not used; reading is fast.

  Returns:
    Images uint8 [N, H, W, 1] with 256 levels.

  Raises:
    UserError: The folder or a file is missing, or a file is not a sound idx
      file of images.
  """
  del cache_dir
  folder = paths.existing_path(path, "idx")
  train_file, test_file = (_find(folder, part) for part in ("train", "t10k"))
  train, validation = splits.carve_validation(
    read_images(train_file), f"idx file {train_file}"
  )
  return Dataset(name, train, validation, read_images(test_file))


def labels(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> dict[str, np.ndarray]:
  """Loads the classes of the images of `load` from the folder's label files.

  These are named like the image files, with `labels` and `idx1` in the places of
  `images` and `idx3`.

  Returns:
    By split, int32 [N].

  Raises:
    UserError: A file is missing or unsound.
  """
  del name, cache_dir
  folder = paths.existing_path(path, "idx")
  train_file, test_file = (_find(folder, part, "labels") for part in ("train", "t10k"))
  train, validation = splits.carve_validation(
    read_labels(train_file), f"idx file {train_file}"
  )
  return {"train": train, "validation": validation, "test": read_labels(test_file)}


def read_labels(path: pathlib.Path) -> np.ndarray:
  """Reads one idx file of labels, int32 [N].

  Raises:
    UserError: See `read_images`.
  """
  return _read(path, LABEL_MAGIC).astype(np.int32)


def read_images(path: pathlib.Path) -> np.ndarray:
  """Reads one idx file of images, uint8 [N, H, W, 1].

  Raises:
    UserError: The file cannot be read, is damaged, holds no images, or is
      longer or shorter than its header says.
  """
  return _read(path, IMAGE_MAGIC)[..., None]


def _read(path: pathlib.Path, magic: int) -> np.ndarray:
  """Reads an idx file of bytes, uint8, of as many dimensions as `magic` ends in.

  Whether it is compressed is told by its content: browsers unpack files and
  leave them their names.

  Raises:
    UserError: The file cannot be read, is damaged, holds no images, or is
      longer or shorter than its header says.
  """
  try:
    with path.open("rb") as stream:
      compressed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    size = path.stat().st_size
    with gzip.open(path) if compressed else path.open("rb") as stream:
      shape = _parse_header(stream.read(_header(magic).size), magic, path)
      expected = math.prod(shape)
      ratio = paths.MAX_DEFLATE_RATIO if compressed else 1
      if expected > size * ratio:
        raise _length_error(path, shape, f"the whole file has {size} bytes")
      data = paths.read_at_most(stream, expected)
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(
      f"idx file {path}: cannot be read ({paths.one_line(error)})"
    ) from error
  if len(data) != expected:
    found = "more" if len(data) > expected else f"{len(data)} bytes"
    raise _length_error(path, shape, f"{found} follow")
  return np.frombuffer(data, np.uint8).reshape(shape)


def _header(magic: int) -> struct.Struct:
  """The magic number, then the dimensions, whose number is its last byte."""
  return struct.Struct(f">{1 + magic % 256}I")


def _parse_header(header: bytes, wanted: int, path: pathlib.Path) -> tuple[int, ...]:
  """Returns number of images, height and width; or the number of labels."""
  kind, form = _KINDS[wanted], _header(wanted)
  if len(header) < form.size:
    raise UserError(
      f"idx file {path}: header has {len(header)} bytes, {kind} has {form.size}"
    )
  magic, *shape = form.unpack(header)
  if magic != wanted:
    raise UserError(f"idx file {path}: magic number is {magic}, {kind} has {wanted}")
  if 0 in shape:
    raise UserError(
      f"idx file {path}: dimensions are {_times(shape)}, at least one image of at"
      " least one pixel is needed"
    )
  return tuple(shape)


def _length_error(path: pathlib.Path, shape: tuple[int, ...], found: str) -> UserError:
  return UserError(
    f"idx file {path}: the header's {_times(shape)} pixels need"
    f" {math.prod(shape)} bytes, but {found}"
  )


def _times(shape: tuple[int, ...] | list[int]) -> str:
  return " x ".join(str(size) for size in shape)


def _find(folder: pathlib.Path, part: str, what: str = "images") -> pathlib.Path:
  dimensions = {"images": 3, "labels": 1}[what]
  names = [
    f"{part}-{what}{separator}idx{dimensions}-ubyte{ending}"
    for separator in "-."
    for ending in ("", ".gz")
  ]
  for name in names:
    if (folder / name).is_file():
      return folder / name
  raise UserError(
    f"idx folder {folder}: has no {part} {what}, allowed names are {', '.join(names)}"
  )
