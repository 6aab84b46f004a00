"""The Toronto Face Database's .mat file, for those who have it."""

import pathlib
from typing import Any

import numpy as np

from infusion_jax.datasets import paths, splits
from infusion_jax.datasets.dataset import MAX_LEVELS, Dataset
from infusion_jax.errors import UserError

# What the numbers in `folds` mean.
_UNLABELED, _TRAIN, _VALIDATION, _TEST = range(4)
_NUM_FOLDS = 5


def load(
  name: str, path: str | None = None, *, cache_dir: str | None = None, fold: int = 1
) -> Dataset:
  """Loads a MATLAB file with `images` [N, H, W] and, for splits, `folds` [N, 5].

  TFD_48x48.mat is one. A column of `folds` is one official split: 0 unlabelled,
  1 training, 2 validation, 3 test. Training takes the unlabelled images, too:
  nothing here looks at labels. Without `folds` the images are split 70 : 10 : 20
  by a fixed permutation.

  Args:
    name: What messages call the data set.
    path: The file, of MATLAB's version 4 to 7.
    cache_dir: Not used; reading is fast.
    fold: Which column of `folds`, from 1.

  Returns:
    Images uint8 [N, H, W, 1] with 256 levels.

  Raises:
    UserError: The file is missing, damaged or of another version, lacks images
      or an image of every split, or holds something else than 8-bit pixels.
  """
  del cache_dir
  if not 1 <= fold <= _NUM_FOLDS:
    raise UserError(f"data.fold is {fold}; allowed are 1 to {_NUM_FOLDS}")
  file = paths.existing_path(path, "mat")
  arrays = _read(file)
  images = _checked_images(arrays, file)
  if "folds" not in arrays:
    return Dataset(name, *splits.split_shuffled(images, f"mat file {file}"))
  member = _checked_folds(arrays["folds"], len(images), file)[:, fold - 1]
  train, validation, test = (
    images[np.isin(member, numbers)]
    for numbers in ((_UNLABELED, _TRAIN), (_VALIDATION,), (_TEST,))
  )
  return Dataset(name, train, validation, test)


def _read(path: pathlib.Path) -> dict[str, Any]:
  # Imported here because it takes a moment and other sources do not need it.
  from scipy import io

  try:
    return io.loadmat(path, variable_names=["images", "folds"])
  except NotImplementedError as error:
    raise UserError(
      f"mat file {path}: is of MATLAB's version 7.3; save it with -v7"
    ) from error
  # Damaged files make scipy raise nearly anything.
  except Exception as error:
    raise UserError(
      f"mat file {path}: cannot be read ({paths.one_line(error)})"
    ) from error


def _checked_images(arrays: dict[str, Any], path: pathlib.Path) -> np.ndarray:
  """Returns the images as uint8 [N, H, W, 1]."""
  if "images" not in arrays:
    raise UserError(f"mat file {path}: has no array named images")
  images = arrays["images"]
  if not isinstance(images, np.ndarray) or images.dtype.kind not in "iu":
    raise UserError(
      f"mat file {path}: images are {getattr(images, 'dtype', type(images))}; allowed"
      " are integers"
    )
  if images.ndim != 3 or images.size == 0:
    raise UserError(
      f"mat file {path}: images have shape {images.shape}; allowed is [N, H, W]"
    )
  lowest, highest = int(images.min()), int(images.max())
  if lowest < 0 or highest >= MAX_LEVELS:
    raise UserError(
      f"mat file {path}: images hold values from {lowest} to {highest}; allowed are"
      f" 0 to {MAX_LEVELS - 1}"
    )
  return np.ascontiguousarray(images, np.uint8)[..., None]


def _checked_folds(folds: np.ndarray, count: int, path: pathlib.Path) -> np.ndarray:
  if folds.shape != (count, _NUM_FOLDS):
    raise UserError(
      f"mat file {path}: folds have shape {folds.shape}; {count} images need"
      f" [{count}, {_NUM_FOLDS}]"
    )
  return folds
