"""The sources by name. A new source is a function and a line in `SOURCES`."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from infusion_jax.datasets import digits, idx, images, mat, npy, npz, points, tfds
from infusion_jax.datasets.dataset import Dataset
from infusion_jax.errors import UserError

# Each function takes (name, path, *, cache_dir) and options of its own, all of
# them keywords with defaults, and returns a `Dataset`.
SOURCES: dict[str, Callable[..., Dataset]] = {
  "sklearn": digits.load,
  "tfds": tfds.load,
  "idx": idx.load,
  "npz": npz.load,
  "npy": npy.load,
  "images": images.load,
  "mat": mat.load,
  "points": points.load,
}

# Sources that know classes. Each function takes what that of `SOURCES` takes and
# returns, by split, the classes of the images that one returns, int32 [N].
LABELS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
  "sklearn": digits.labels,
  "tfds": tfds.labels,
  "idx": idx.labels,
  "npz": npz.labels,
  "images": images.labels,
  "points": points.labels,
}


def load(
  name: str,
  source: str,
  path: str | None = None,
  *,
  cache_dir: str | None = None,
  **options: Any,
) -> Dataset:
  """Loads a data set. Nothing is ever downloaded.

  Args:
    name: Name of the data set; "sklearn" and "tfds" look it up, the others
      only use it in messages.
    source: One of `SOURCES`.
    path: File or folder the source reads; None for sources that need none.
    cache_dir: Where sources that decode slowly keep the decoded arrays; by
      default `$INFUSION_JAX_CACHE` or `~/.cache/infusion_jax`.
    **options: Further settings of the source.

  Returns:
    The three splits, uint8 [N, H, W, C] each.

  Raises:
    UserError: The source or an option is unknown, or the data are missing,
      damaged or not images.
  """
  if source not in SOURCES:
    raise UserError(f"data.source is {source!r}; allowed are {', '.join(SOURCES)}")
  function = SOURCES[source]
  _check_options(source, function, options)
  return function(name, path or None, cache_dir=cache_dir, **options)


def load_labels(
  name: str,
  source: str,
  path: str | None = None,
  *,
  cache_dir: str | None = None,
  **options: Any,
) -> dict[str, np.ndarray]:
  """Loads the classes of the images that `load` returns with the same arguments.

  Returns:
    By split, int32 [N], numbers from 0.

  Raises:
    UserError: The source knows no classes, these data have none, or what `load`
      raises.
  """
  if source not in LABELS:
    raise UserError(
      f"data.source is {source!r}; sources that know labels are {', '.join(LABELS)}"
    )
  function = LABELS[source]
  _check_options(source, function, options)
  return function(name, path or None, cache_dir=cache_dir, **options)


def _check_options(
  source: str, function: Callable[..., Any], options: dict[str, Any]
) -> None:
  parameters = inspect.signature(function).parameters.values()
  allowed = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"cache_dir"}
  for option in options:
    if option not in allowed:
      choices = ", ".join(sorted(allowed)) or "none"
      raise UserError(
        f"option {option!r} is unknown to data.source {source!r}; allowed are {choices}"
      )
