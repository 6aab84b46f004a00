"""From a network's last activations to a Gaussian over images."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Gaussian

Array = jax.Array


def to_gaussian(
  raw_mean: Array, raw_variance: Array, scale: float, floor: float
) -> Gaussian:
  """mean = sigmoid(raw), variance = scale * sigmoid(raw) + floor (section 3.5).

  Args:
    raw_mean: [B, H, W, C] logits of the mean.
    raw_variance: [B, H, W, C] logits of the variance.
    scale: beta, 0.1.
    floor: epsilon, 1e-4: the smallest variance.

  Returns:
    A Gaussian in float32 at least, whatever the precision of the logits.
  """
  dtype = jnp.promote_types(raw_mean.dtype, jnp.float32)
  mean = jax.nn.sigmoid(raw_mean.astype(dtype))
  variance = scale * jax.nn.sigmoid(raw_variance.astype(dtype)) + floor
  return Gaussian(mean, variance)


def side_by_side(key: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
  """Glorot-initializes two layers stored as one kernel [..., 2 * features]."""
  half = (*shape[:-1], shape[-1] // 2)
  glorot = nn.initializers.glorot_uniform()
  return jnp.concatenate([glorot(k, half, dtype) for k in jax.random.split(key)], -1)
