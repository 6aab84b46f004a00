"""Integer pixels to real ones: scaling and dequantization."""

import jax
import jax.numpy as jnp

from infusion_jax import random

Array = jax.Array

#: The number of levels of data whose pixels are bits: 0 and 1, taken as they are.
BITS = 1


def scaled(images: Array, levels: int) -> Array:
  """Clean images in [0, 1): value / levels, float32 (the Parzen protocol's)."""
  return images.astype(jnp.float32) / levels


def middles(images: Array, levels: int) -> Array:
  """The middle of each grey level, (value + 1/2) / levels, float32."""
  return (images.astype(jnp.float32) + 0.5) / levels


def of_levels(x: Array, levels: int) -> Array:
  """The middle of the grey level that each number lies in or is nearest to."""
  return middles(jnp.clip(jnp.floor(x * levels), 0, levels - 1), levels)


def dequantized(key: Array, images: Array, levels: int) -> Array:
  """Targets: (value + U(0, 1)) / levels, in [0, 1).

  The noise is drawn afresh whenever an image is used as a target, in training
  and in every likelihood, so that the density of the integers is not inflated. Bits
  stay what they are.

  Args:
    key: one key, or [B] keys.
    images: [B, H, W, C] integers in 0 ... levels - 1.
    levels: number of grey levels (256, or 17 for scikit-learn's digits), or `BITS`.

  Returns:
    [B, H, W, C] float32.
  """
  if levels == BITS:
    return images.astype(jnp.float32)
  noise = random.uniform(key, images.shape)
  values = images.astype(jnp.float32)
  # In float32 a value and the noise may round up to the next level.
  below_next = jnp.nextafter((values + 1) / levels, jnp.float32(0))
  return jnp.minimum((values + noise) / levels, below_next)
