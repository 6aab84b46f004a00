"""Independent bits, and the infusion mixture of them with the bits of a target.

The counterpart of `gaussian` for pixels that are 0 or 1. Densities are probabilities,
in nats per bit (`log_density`) or per pixel (`mixture_log_density`), never summed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import random
from infusion_jax.gaussian import Draw, by_pixel, log_mix, total

Array = jax.Array

#: log 0, as far as float32 can add and differentiate it.
_NEVER = -1e9


class Bernoulli(NamedTuple):
  """Bits that are 1 with probability sigmoid(logits); see `gaussian.Distribution`.

  Attributes:
    logits: [..., H, W, C].
  """

  logits: Array

  @property
  def mean(self) -> Array:
    """The probability of a 1, [..., H, W, C]."""
    return jax.nn.sigmoid(self.logits)

  @property
  def variance(self) -> Array:
    """p (1 - p), [..., H, W, C]."""
    mean = self.mean
    return mean * (1 - mean)

  def draw(self, key: Array) -> Array:
    """Bits [..., H, W, C], as 0.0 and 1.0; no gradient flows through them."""
    chance = random.uniform(key, self.logits.shape, self.logits.dtype)
    return (chance < self.mean).astype(self.logits.dtype)

  def mixture_draw(
    self, key: Array, target: Array, rate: Array, target_variance: Array | float
  ) -> Draw:
    """Draws from (1 - rate) p + rate delta_target, per pixel.

    A bit of the target is taken as it is, so that `target_variance` is not used. The
    choice is drawn once a pixel and shared by its channels, as for Gaussians.
    """
    del target_variance
    value = self.draw(random.fold_in(key, 0))
    shape = (*value.shape[:-1], 1)
    mask = random.uniform(random.fold_in(key, 1), shape, value.dtype) < rate
    return Draw(jnp.where(mask, target, value), mask)

  def seen(self, z: Array) -> Array:
    """See `gaussian.Distribution`."""
    return z

  def log_density(self, x: Array) -> Array:
    """log P(x), bit by bit, of bits x [..., H, W, C]."""
    return -jax.nn.softplus(jnp.where(x > 0.5, -self.logits, self.logits))

  def mixture_log_density(
    self, z: Array, target: Array, rate: Array, target_variance: Array | float
  ) -> Array:
    """log[(1 - rate) P(z) + rate 1(z = target)], per pixel: [..., H, W] nats."""
    del target_variance
    same = jnp.where((z > 0.5) == (target > 0.5), 0.0, _NEVER)
    return log_mix(total(self.log_density(z), -1), same.min(-1), by_pixel(rate))

  def settled(self, key: Array) -> "Bernoulli":
    """See `gaussian.Distribution`."""
    del key
    return self

  def log_output(self, x: Array, levels: int, outliers: float = 0.0) -> Array:
    """`log_density`: bits have no grey levels between them, and no outliers."""
    del levels, outliers
    return self.log_density(x)

  def toward(self, given: "Bernoulli", guidance: Array) -> "Bernoulli":
    """Logits (1 - w) self + w given: powers of the two, normalized, for every w."""
    return Bernoulli((1 - guidance) * self.logits + guidance * given.logits)


def fit(images: np.ndarray, floor: float) -> Bernoulli:
  """The maximum-likelihood bits of a training set, as `chain.fit_prior` for Gaussians.

  Args:
    images: [N, H, W, C] of 0 and 1.
    floor: least probability of a 0 and of a 1; a pixel may never change.

  Returns:
    Logits [H, W, C] float32.
  """
  ones = images.astype(np.int64).sum(0) / len(images)
  probability = np.clip(ones, floor, 1 - floor)
  logits = np.log(probability) - np.log1p(-probability)
  return Bernoulli(jnp.asarray(logits, jnp.float32))
