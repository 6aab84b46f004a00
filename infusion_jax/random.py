"""Random draws from one key for a batch, or from one key per image.

Every draw of the library goes through here, so that a caller chooses by the
key's shape alone: a scalar key draws for the whole batch at once (training),
an array of [B] keys gives every image a stream of its own (sampling and
likelihoods), whose numbers then depend neither on the batch nor on its order.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array


def fold_in(key: Array, data: int | Array) -> Array:
  """Derives a key, or [B] keys, from `key` (scalar or [B]) and one integer."""
  if key.ndim:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, data)
  return jax.random.fold_in(key, data)


def named(key: Array, name: str) -> Array:
  """Derives the stream called `name`: equal names give equal streams."""
  # A 32-bit FNV-1a hash: Python's own hash differs from process to process.
  digest = 2166136261
  for byte in name.encode():
    digest = ((digest ^ byte) * 16777619) & 0xFFFFFFFF
  return fold_in(key, jnp.uint32(digest))


def steps(key: Array, num_steps: int) -> Array:
  """Derives one key (or [B] keys) per time step: [T] or [T, B]."""
  return jax.vmap(lambda t: fold_in(key, t))(jnp.arange(num_steps))


def split_for_images(key: Array, count: int) -> Array:
  """Keys for `count` copies of each image, side by side: [B] become [B count]."""
  if key.ndim:
    return jax.vmap(lambda k: jax.random.split(k, count))(key).reshape(-1)
  return key


def normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """Draws N(0, 1) of `shape` [B, ...]; [B] keys draw image by image."""
  if key.ndim:
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], dtype))(key)
  return jax.random.normal(key, shape, dtype)


def uniform(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """Draws U[0, 1) of `shape` [B, ...]; [B] keys draw image by image."""
  if key.ndim:
    return jax.vmap(lambda k: jax.random.uniform(k, shape[1:], dtype))(key)
  return jax.random.uniform(key, shape, dtype)
