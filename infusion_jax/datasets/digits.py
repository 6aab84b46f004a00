"""scikit-learn's digits: 1,797 images of 8x8 pixels that ship with the package."""

import numpy as np

from infusion_jax.datasets import splits
from infusion_jax.datasets.dataset import SPLITS, Dataset
from infusion_jax.errors import UserError

LEVELS = 17


def load(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> Dataset:
  """Loads the digits, split 1,257 / 180 / 360 by a fixed permutation.

  The permutation mixes the writers, whom the original order keeps together.

  Args:
    name: "digits", the only data set of this source.
    path: Must be empty; the data are part of scikit-learn.
    cache_dir: Not used; there is nothing to decode.

  Returns:
    Images uint8 [N, 8, 8, 1] with 17 levels.

  Raises:
    UserError: The name is another one, or a path is given.
  """
  del cache_dir
  _check(name, path)
  images, _ = _digits()
  train, validation, test = splits.split_shuffled(images, "dataset 'digits'")
  return Dataset(name, train, validation, test, LEVELS)


def labels(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> dict[str, np.ndarray]:
  """Returns which digits the images of `load` are, by split, int32 [N].

  Raises:
    UserError: See `load`.
  """
  del cache_dir
  _check(name, path)
  _, digits = _digits()
  return dict(
    zip(SPLITS, splits.split_shuffled(digits, "dataset 'digits'"), strict=True)
  )


def _check(name: str, path: str | None) -> None:
  if name != "digits":
    raise UserError(f"data.name is {name!r}; source 'sklearn' has only 'digits'")
  if path:
    raise UserError(f"data.path is {path!r}; source 'sklearn' reads no path")


def _digits() -> tuple[np.ndarray, np.ndarray]:
  """Returns all digits, uint8 [1797, 8, 8, 1], and which they are, int32 [1797]."""
  # Imported here because it takes a second and other sources do not need it.
  from sklearn.datasets import load_digits

  digits = load_digits()
  return digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int32)
