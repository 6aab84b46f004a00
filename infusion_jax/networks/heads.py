"""From a network's last activations to a distribution of images."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Distribution, Gaussian
from infusion_jax.states.bernoulli import Bernoulli
from infusion_jax.states.multimodal import Multimodal

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


def states_shape(z: Array, self_conditioning: bool) -> tuple[int, ...]:
  """[B, H, W, C] of one head; z is states, or states and means side by side."""
  return *z.shape[:-1], z.shape[-1] // (2 if self_conditioning else 1)


def count(bits: bool) -> int:
  """Heads a network needs: logits of bits; or mean and variance."""
  return 1 if bits else 2


def to_distribution(
  raw: Array, bits: bool, shape: tuple[int, ...], scale: float, floor: float
) -> Distribution:
  """Bits with these logits, or the Gaussian of `to_gaussian`.

  Args:
    raw: [..., `count(bits)` times features], head after head.
    bits: which of the two.
    shape: [B, H, W, C], of one head.
    scale: see `to_gaussian`, as floor.
    floor: not used for bits.

  Returns:
    The distribution over [B, H, W, C].
  """
  heads = [head.reshape(shape) for head in jnp.split(raw, count(bits), axis=-1)]
  if bits:
    (logits,) = heads
    return Bernoulli(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
  return to_gaussian(*heads, scale, floor)


def to_multimodal(
  raw: Array, logits: Array, shape: tuple[int, ...], scale: float, floor: float
) -> Multimodal:
  """The mixture of k Gaussians of `to_gaussian`.

  Args:
    raw: [B, 2 k H W C]: k heads of means, then k of variances.
    logits: [B, k].
    shape: [B, H, W, C].
    scale: see `to_gaussian`, as floor.
    floor: epsilon.
  """
  heads = raw.reshape(shape[0], 2, logits.shape[-1], *shape[1:])
  mean, variance = to_gaussian(heads[:, 0], heads[:, 1], scale, floor)
  return Multimodal(mean, variance, logits.astype(mean.dtype))


def initializer(bits: bool, latents: int = 1) -> Callable[..., Array]:
  """Of the kernel that all heads share."""
  if bits:
    return nn.initializers.glorot_uniform()
  return functools.partial(side_by_side, parts=2 * latents)


def side_by_side(
  key: Array, shape: tuple[int, ...], dtype: jnp.dtype, parts: int = 2
) -> Array:
  """Glorot-initializes layers stored as one kernel [..., parts * features]."""
  part = (*shape[:-1], shape[-1] // parts)
  glorot, keys = nn.initializers.glorot_uniform(), jax.random.split(key, parts)
  return jnp.concatenate([glorot(k, part, dtype) for k in keys], -1)
