"""Folders of MNIST-format idx files, compressed or not."""

import gzip
import math
import pathlib
import struct
import zlib

import numpy as np

from infusion_jax.datasets import files, splits
from infusion_jax.datasets.dataset import Dataset
from infusion_jax.errors import UserError

IMAGE_MAGIC = 2051
_HEADER = struct.Struct(">4I")
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
  folder = files.existing_path(path, "idx")
  train_file, test_file = (_find(folder, part) for part in ("train", "t10k"))
  train, validation = splits.carve_validation(
    read_images(train_file), f"idx file {train_file}"
  )
  return Dataset(name, train, validation, read_images(test_file))


def read_images(path: pathlib.Path) -> np.ndarray:
  """Reads one idx file of images, uint8 [N, H, W, 1].

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
      shape = _parse_header(stream.read(_HEADER.size), path)
      expected = math.prod(shape)
      ratio = files.MAX_DEFLATE_RATIO if compressed else 1
      if expected > size * ratio:
        raise _length_error(path, shape, f"the whole file has {size} bytes")
      data = files.read_at_most(stream, expected)
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(
      f"idx file {path}: cannot be read ({files.one_line(error)})"
    ) from error
  if len(data) != expected:
    found = "more" if len(data) > expected else f"{len(data)} bytes"
    raise _length_error(path, shape, f"{found} follow")
  return np.frombuffer(data, np.uint8).reshape(*shape, 1)


def _parse_header(header: bytes, path: pathlib.Path) -> tuple[int, int, int]:
  """Returns number of images, height and width."""
  if len(header) < _HEADER.size:
    raise UserError(
      f"idx file {path}: header has {len(header)} bytes, an image file has"
      f" {_HEADER.size}"
    )
  magic, *shape = _HEADER.unpack(header)
  if magic != IMAGE_MAGIC:
    raise UserError(
      f"idx file {path}: magic number is {magic}, an image file has {IMAGE_MAGIC}"
    )
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


def _find(folder: pathlib.Path, part: str) -> pathlib.Path:
  names = [
    f"{part}-images{separator}idx3-ubyte{ending}"
    for separator in "-."
    for ending in ("", ".gz")
  ]
  for name in names:
    if (folder / name).is_file():
      return folder / name
  raise UserError(
    f"idx folder {folder}: has no {part} images, allowed names are {', '.join(names)}"
  )
