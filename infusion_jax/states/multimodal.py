"""States with several modes: one of k Gaussians, drawn for all pixels of an image.

p(z) = sum_c pi_c N(z; mean_c, variance_c) over whole images: a transition "may be
multimodal" (section 3.3.2). The pixels share the latent c, so that a density is one
number an image: what other states return by the pixel, these return summed, [...] nats.

An image is infused into the choice of c, too. q draws it with probabilities
proportional to pi_c N(x; mean_c, variance_c)^rate: by pi at rate 0, by the posterior at
rate 1. Drawn by pi alone, c would often belong to another picture than x, far from
which the infused pixels lie.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Draw, Gaussian

Array = jax.Array


class Multimodal(NamedTuple):
  """A mixture of k diagonal Gaussians over images; see `gaussian.Distribution`.

  Attributes:
    means: [..., k, H, W, C].
    variances: of the same shape.
    logits: [..., k], log pi_c but for a constant.
  """

  means: Array
  variances: Array
  logits: Array

  @property
  def components(self) -> Gaussian:
    """All Gaussians, [..., k, H, W, C]."""
    return Gaussian(self.means, self.variances)

  @property
  def mean(self) -> Array:
    """The mean over all components, [..., H, W, C]; a picture shows one: `settled`."""
    return self._average(self.means)

  @property
  def variance(self) -> Array:
    """Of every pixel by itself, components apart included, [..., H, W, C]."""
    apart = jnp.square(self.means - self.mean[..., None, :, :, :])
    return self._average(self.variances + apart)

  def settled(self, key: Array) -> Gaussian:
    """One component an image, drawn by its probability, [..., H, W, C]."""
    below = jnp.cumsum(jax.nn.softmax(self.logits), -1)[..., :-1]
    chance = random.uniform(key, (*below.shape[:-1], 1), below.dtype)
    index = (below <= chance).sum(-1)[..., None, None, None, None]
    return jax.tree.map(
      lambda leaf: jnp.take_along_axis(leaf, index, -4).squeeze(-4), self.components
    )

  def draw(self, key: Array) -> Array:
    """A component, then a state [..., H, W, C] of it."""
    return self._of_draw(key).draw(key)

  def mixture_draw(
    self, key: Array, target: Array, rate: Array, target_variance: Array | float
  ) -> Draw:
    """A component, `inclined` towards the target, then `gaussian.mixture_sample`."""
    p = self.inclined(target, rate)._of_draw(key)
    return p.mixture_draw(key, target, rate, target_variance)

  def seen(self, z: Array) -> Array:
    """See `gaussian.Distribution`."""
    return z

  def log_density(self, x: Array) -> Array:
    """log p(x) of whole images [..., H, W, C], [...] nats."""
    return self._log_sum(gaussian.log_density(_beside(x), self.components))

  def mixture_log_density(
    self, z: Array, target: Array, rate: Array, target_variance: Array | float
  ) -> Array:
    """log q(z) of what `mixture_draw` draws, [...] nats."""
    log_q = gaussian.mixture_log_density(
      _beside(z), self.components, _beside(target), rate, target_variance
    )
    return self.inclined(target, rate)._log_sum(log_q[..., None])

  def log_output(self, x: Array, levels: int, outliers: float = 0.0) -> Array:
    """log p(x) of whole images, by `Gaussian.log_output` of components, [...] nats."""
    return self._log_sum(self.components.log_output(_beside(x), levels, outliers))

  def moved(self, x: Array, rate: Array) -> "Multimodal":
    """The same, `inclined`, and with all means moved towards x, [..., H, W, C]."""
    means = self.components.moved(_beside(x), rate).mean
    return self.inclined(x, rate)._replace(means=means)

  def inclined(self, x: Array, rate: Array) -> "Multimodal":
    """The same with probabilities proportional to pi_c N(x; mean_c, variance_c)^rate.

    Args:
      x: [..., H, W, C].
      rate: scalar, or [H, W, 1]: each pixel to its own power.
    """
    fit = gaussian.log_density(_beside(x), self.components)
    fit = gaussian.total(rate * fit, (-3, -2, -1))
    return self._replace(logits=self.logits + fit)

  def toward(self, given: "Multimodal", guidance: Array) -> "Multimodal":
    """Component by component as Gaussians, their probabilities as those of bits."""
    means, variances = self.components.toward(given.components, guidance)
    logits = (1 - guidance) * self.logits + guidance * given.logits
    return Multimodal(means, variances, logits)

  def _of_draw(self, key: Array) -> Gaussian:
    return self.settled(random.named(key, "latent"))

  def _average(self, leaf: Array) -> Array:
    shares = jax.nn.softmax(self.logits)[..., None, None, None]
    return (shares * leaf).sum(-4)

  def _log_sum(self, log_p: Array) -> Array:
    """log sum_c pi_c exp(sum over pixels of log_p), log_p [..., k, H, W, C or 1]."""
    each = gaussian.total(log_p, (-3, -2, -1))
    return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + each, -1)


def repeated(p: Gaussian, count: int) -> Multimodal:
  """A Gaussian as a mixture of copies of itself; leaves [count, ...]."""
  copies = (jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))) for leaf in p)
  return Multimodal(*copies, jnp.zeros(count))


def _beside(x: Array) -> Array:
  """Images [..., H, W, C] beside all components, [..., 1, H, W, C]."""
  return x[..., None, :, :, :]
