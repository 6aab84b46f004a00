"""The nearest training image in pixel L2 (figure 3.5): did the model copy it?"""

from typing import NamedTuple

import numpy as np

from infusion_jax.errors import UserError

#: Bytes of training images held as float64 at a time.
_CHUNK_BYTES = 1 << 26


class Neighbors(NamedTuple):
  """The nearest training image of each query.

  Attributes:
    index: [N], its number in the training set.
    distance: [N] float64, ||query - image||, both in [0, 1].
  """

  index: np.ndarray
  distance: np.ndarray


def nearest(
  queries: np.ndarray,
  train: np.ndarray,
  levels: int,
  *,
  chunk_size: int | None = None,
) -> Neighbors:
  """Finds the nearest neighbours by comparing with every training image.

  Distances are computed in float64 from |q|^2 - 2 q.t + |t|^2, chunk by chunk.
  Of images that are equally near (up to rounding) one is taken.

  Args:
    queries: [N, H, W, C] in [0, 1].
    train: [M, H, W, C] integers; divided by `levels` here.
    levels: grey levels of `train`.
    chunk_size: training images compared at a time; by default as many as keep
      images and distances below 64 MiB each.

  Returns:
    The neighbours.

  Raises:
    UserError: the images are not of one shape, or there are none.
  """
  if queries.shape[1:] != train.shape[1:] or not len(queries) or not len(train):
    raise UserError(
      f"images have shape {queries.shape}, training images {train.shape};"
      " allowed are at least one of each, of equal height, width and channels"
    )
  q = np.asarray(queries, np.float64).reshape(len(queries), -1)
  size = chunk_size or max(1, _CHUNK_BYTES // (8 * max(q.shape)))
  index = np.zeros(len(q), np.int64)
  smallest = np.full(len(q), np.inf)
  for first in range(0, len(train), size):
    # |q|^2 is the same for all images and left out.
    t = _scaled(train[first : first + size], levels)
    squared = np.einsum("md,md->m", t, t) - 2.0 * (q @ t.T)
    best = squared.argmin(1)
    value = np.take_along_axis(squared, best[:, None], 1)[:, 0]
    nearer = value < smallest
    index[nearer] = first + best[nearer]
    smallest[nearer] = value[nearer]
  return Neighbors(index, np.linalg.norm(q - _scaled(train[index], levels), axis=1))


def _scaled(images: np.ndarray, levels: int) -> np.ndarray:
  """[M, H, W, C] integers as float64 [M, H W C] in [0, 1)."""
  return images.reshape(len(images), -1).astype(np.float64) / levels
