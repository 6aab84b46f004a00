"""Keys and batches: image i of a result depends on key i alone."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax.errors import UserError

Array = jax.Array
PyTree = Any

#: Chains per call of a compiled function; fixed, and the last batch is filled up, so
#: that the same image comes out whatever it is asked for together with.
BATCH = 64


def one_each(key: Array, count: int | None) -> Array:
  """[B] keys as they are, or those of images 0 ... count - 1 of one key."""
  if key.ndim:
    return key
  if count is None:
    raise UserError("count is missing; with one key, say how many images")
  return keys_of(key, range(at_least_one("count", count)))


def keys_of(key: Array, seeds: Sequence[int]) -> Array:
  """One key per seed: `fold_in(key, seed)`, [B].

  Raises:
    UserError: a seed is below 0 or has more than 32 bits.
  """
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise UserError(f"a seed is {seed}; allowed are 0 to {2**32 - 1}")
  return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(
    jnp.asarray(list(seeds), jnp.uint32)
  )


def at_least_one(name: str, value: int) -> int:
  """The value; UserError if it is below 1."""
  if value < 1:
    raise UserError(f"{name} is {value}; it must be at least 1")
  return value


def in_batches(
  function: Callable[..., PyTree], *arrays: Array | np.ndarray, size: int = BATCH
) -> PyTree:
  """Calls `function` on rows in batches of one size, the last one padded."""
  count = len(arrays[0])
  results = []
  for first in range(0, count, size):
    rows = np.minimum(np.arange(first, first + size), count - 1)
    results.append(jax.device_get(function(*(array[rows] for array in arrays))))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)
