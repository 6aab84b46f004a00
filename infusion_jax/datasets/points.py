"""Points in the plane, made from a fixed seed: the fastest data to train on.

A point is an image of two pixels, [1, 2, 1], its coordinates as 256 levels of [0, 1);
dequantization fills the space between the levels. Chains, criteria and likelihoods
therefore take points as they take pictures, and coordinates are infused one by one.
"""

import math
from collections.abc import Callable

import numpy as np

from infusion_jax.datasets import splits
from infusion_jax.datasets.dataset import MAX_LEVELS, SPLITS, Dataset
from infusion_jax.errors import UserError

IMAGE_SHAPE = (1, 2, 1)
_COUNTS = {"train": 20_000, "validation": 2_000, "test": 2_000}
#: Standard deviation of the noise around curves, in units of the square's side.
_NOISE = 0.02
_RADII = (0.15, 0.28, 0.41)
_CELLS = 4


def load(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> Dataset:
  """Makes 20,000 training, 2,000 validation and 2,000 test points.

  Args:
    name: "two_moons", "rings" or "checkerboard".
    path: Must be empty; points are computed.
    cache_dir: Not used.

  Returns:
    Points uint8 [N, 1, 2, 1]: x to the right, y upwards, 256 levels each.

  Raises:
    UserError: The name is another one, or a path is given.
  """
  del cache_dir
  points, _ = _make(name, path)
  levels = np.floor(np.clip(points, 0.0, 1.0) * MAX_LEVELS).clip(0, MAX_LEVELS - 1)
  images = levels.astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
  return Dataset(name, **_by_split(images))


def labels(
  name: str, path: str | None = None, *, cache_dir: str | None = None
) -> dict[str, np.ndarray]:
  """Which moon, ring (the innermost is 0) or column of cells the points lie in.

  Returns:
    By split, int32 [N].

  Raises:
    UserError: See `load`.
  """
  del cache_dir
  return _by_split(_make(name, path)[1].astype(np.int32))


def _make(name: str, path: str | None) -> tuple[np.ndarray, np.ndarray]:
  """All points [N, 2], and their parts [N]."""
  if name not in _MAKERS:
    raise UserError(
      f"data.name is {name!r}; source 'points' has {', '.join(sorted(_MAKERS))}"
    )
  if path:
    raise UserError(f"data.path is {path!r}; source 'points' reads no path")
  uniform = splits.fixed_uniform(4 * sum(_COUNTS.values())).reshape(4, -1)
  return _MAKERS[name](*uniform)


def _two_moons(
  part: np.ndarray, along: np.ndarray, *noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Two half circles that reach into each other, as scikit-learn's."""
  lower, angle = part < 0.5, math.pi * along
  x = np.where(lower, 1.0 - np.cos(angle), np.cos(angle))
  y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
  points = np.stack([0.5 + 0.25 * (x - 0.5), 0.5 + 0.25 * (y - 0.25)], -1)
  return points + _normal(*noise), lower


def _rings(
  part: np.ndarray, along: np.ndarray, *noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Three rings around the middle, equally probable."""
  ring, angle = np.floor(len(_RADII) * part).astype(int), 2.0 * math.pi * along
  directions = np.stack([np.cos(angle), np.sin(angle)], -1)
  points = 0.5 + np.array(_RADII)[ring][:, None] * directions
  return points + _normal(*noise), ring


def _checkerboard(
  part: np.ndarray, along: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Every other cell of a board of 4 x 4, evenly: the log-density is log 2 there."""
  column = np.floor(_CELLS * part).astype(int)
  row = 2 * np.floor(_CELLS / 2 * along) + column % 2
  return np.stack([column + x, row + y], -1) / _CELLS, column


def _normal(radius: np.ndarray, turn: np.ndarray) -> np.ndarray:
  """Gaussian noise [N, 2] from two uniform numbers a point (Box and Muller)."""
  length = _NOISE * np.sqrt(-2.0 * np.log1p(-radius))
  angle = 2.0 * math.pi * turn
  return np.stack([length * np.cos(angle), length * np.sin(angle)], -1)


_MAKERS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
  "two_moons": _two_moons,
  "rings": _rings,
  "checkerboard": _checkerboard,
}


def _by_split(rows: np.ndarray) -> dict[str, np.ndarray]:
  ends = np.cumsum([_COUNTS[split] for split in SPLITS])[:-1]
  return dict(zip(SPLITS, np.split(rows, ends), strict=True))
