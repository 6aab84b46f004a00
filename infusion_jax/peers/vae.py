"""The variational autoencoder.

Kingma and Welling (2014), "Auto-encoding variational Bayes"; Burda et al. (2016),
"Importance weighted autoencoders"; one learned output variance for all pixels, as
Rybkin et al. (2021) advise.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import perceptron
from infusion_jax.peers.generator import Generator
from infusion_jax.peers.peer import LogLikelihood, Trained, flat
from infusion_jax.peers.perceptron import Perceptron

Array = jax.Array
PyTree = Any

_FIRST_VARIANCE = 0.05
_DRAWS = 50


@dataclasses.dataclass(frozen=True)
class VAE(Generator):
  """Noise -> decoder -> Gaussian, learned beside an encoder."""

  title = "VAE"
  passes = 2

  def init(self, key: Array) -> PyTree:
    """Encoder, decoder and the log of the output variance."""
    keys = jax.random.split(key)
    return {
      "encoder": perceptron.init(self._encoder, keys[0], self.size),
      "decoder": perceptron.init(self.decoder, keys[1], self.noise_size),
      "log_variance": jnp.asarray(math.log(_FIRST_VARIANCE), jnp.float32),
    }

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """Minus the bound (eq. 3), per pixel."""
    del prior
    return -self._log_weight(key, parameters, x).mean() / self.size

  def output_variance(self, parameters: PyTree) -> Array:
    """The one that was learned."""
    return jnp.exp(parameters["log_variance"])

  def encode(self, parameters: PyTree, x: Array) -> Gaussian:
    """q(noise | x) over [B, noise_size]."""
    raw = perceptron.call(self._encoder, parameters["encoder"], flat(x) - 0.5)
    mean, log_variance = jnp.split(raw, 2, axis=-1)
    return Gaussian(mean, jnp.exp(jnp.clip(log_variance, -20.0, 5.0)))

  @property
  def likelihoods(self) -> Mapping[str, LogLikelihood]:
    """The bound, and importance sampling with the encoder as proposal."""
    return {
      "bound": functools.partial(self._likelihood, jnp.mean),
      f"importance, {_DRAWS} draws": functools.partial(self._likelihood, _log_mean_exp),
    }

  def _likelihood(self, over: Any, key: Array, trained: Trained, x: Array) -> Array:
    def draw(n: Array) -> Array:
      return self._log_weight(random.fold_in(key, n), trained.parameters, x)

    return over(jax.lax.map(draw, jnp.arange(_DRAWS)), axis=0)

  def _log_weight(self, key: Array, parameters: PyTree, x: Array) -> Array:
    """log p(x | e) + log p(e) - log q(e | x) for one draw of e, [B] nats."""
    q = self.encode(parameters, x)
    noise = gaussian.sample(key, q)
    standard = Gaussian(jnp.zeros_like(noise), jnp.ones_like(noise))
    p = Gaussian(self.decode(parameters, noise), self.output_variance(parameters))
    output = gaussian.log_density(x, p)
    ratio = gaussian.log_density(noise, standard) - gaussian.log_density(noise, q)
    return gaussian.per_image(output) + gaussian.per_image(ratio)

  @property
  def _encoder(self) -> Perceptron:
    return Perceptron(self.hidden_sizes, 2 * self.noise_size)


def _log_mean_exp(values: Array, axis: int) -> Array:
  return jax.nn.logsumexp(values, axis) - jnp.log(values.shape[axis])
