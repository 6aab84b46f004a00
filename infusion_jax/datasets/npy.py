"""Folders of NumPy .npy files, mapped into memory: data sets of any size.

Nothing is read but what is used, and the operating system drops it again where
memory is short. Write one with `numpy.lib.format.open_memmap`, part by part.
"""

import pathlib

import numpy as np

from infusion_jax.datasets import paths, splits
from infusion_jax.datasets.dataset import Dataset
from infusion_jax.errors import UserError


def load(
  name: str,
  path: str | None = None,
  *,
  cache_dir: str | None = None,
) -> Dataset:
  """Maps the splits of a folder.

  It holds `train.npy` and `test.npy`, with `validation.npy` or else the last sixth
  of the training images (at most 10,000) in its place.

  Args:
    name: What messages call the data set.
    path: The folder.
    cache_dir: Not used; there is nothing to decode.

  Returns:
    Images uint8 [N, H, W, C]; arrays [N, H, W] get one channel.

  Raises:
    UserError: A file is missing or damaged, or holds something else than uint8
      images.
  """
  del cache_dir
  folder = paths.existing_path(path, "npy")
  train, test = (_mapped(folder / f"{split}.npy") for split in ("train", "test"))
  given = folder / "validation.npy"
  if given.exists():
    validation = _mapped(given)
  else:
    train, validation = splits.carve_validation(train, f"npy file {folder}/train.npy")
  return Dataset(name, train, validation, test)


def _mapped(file: pathlib.Path) -> np.ndarray:
  try:
    images = np.load(file, mmap_mode="r", allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    reason = paths.one_line(error)
    raise UserError(f"npy file {file}: cannot be read ({reason})") from error
  if images.dtype != np.uint8 or images.ndim not in (3, 4):
    raise UserError(
      f"npy file {file} has dtype {images.dtype} and shape {images.shape}; allowed are"
      " uint8 and [N, H, W] or [N, H, W, C]"
    )
  return images[..., None] if images.ndim == 3 else images
