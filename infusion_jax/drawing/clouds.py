"""Points of the plane as pictures: how many lie in each of many small cells."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

#: Cells along each side of the unit square.
_CELLS = 128
#: The share of a picture's occupied cells that stay below white.
_BELOW_WHITE = 0.95


def are_points(image_shape: Sequence[int]) -> bool:
  """Whether images of this shape are points of the plane: two numbers."""
  return math.prod(image_shape) == 2


def cloud(points: ArrayLike, cells: int = _CELLS) -> np.ndarray:
  """A histogram of points of the unit square, x to the right and y upwards.

  Args:
    points: images of two numbers, [N, ...]; those outside of the square are left out.
    cells: along each side.

  Returns:
    [cells, cells, 1] float32 in [0, 1].
  """
  x, y = np.asarray(points, np.float64).reshape(-1, 2).T
  bounds = [[0.0, 1.0], [0.0, 1.0]]
  counts, _, _ = np.histogram2d(x, y, bins=cells, range=bounds)
  return of_density(counts)


def of_density(density: ArrayLike) -> np.ndarray:
  """A density over the square, [A, A] with x first, drawn as `cloud` does it."""
  upright = np.asarray(density, np.float64).T[::-1]
  occupied = upright[upright > 0.01 * upright.max()]
  white = np.quantile(occupied, _BELOW_WHITE) if occupied.size else 1.0
  return np.clip(upright / white, 0.0, 1.0).astype(np.float32)[..., None]
