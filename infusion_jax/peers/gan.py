"""The generative adversarial network.

Goodfellow et al. (2014), "Generative adversarial nets", with the generator's
non-saturating loss; noise on all that the discriminator sees (Sonderby et al., 2017)
and the gradient penalty R1 (Mescheder et al., 2018) keep the two in balance.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import perceptron
from infusion_jax.peers.generator import Generator
from infusion_jax.peers.peer import flat
from infusion_jax.peers.perceptron import Perceptron

Array = jax.Array
PyTree = Any

#: Deviation of the noise on the discriminator's images, and weight of R1.
_NOISE = 0.1
_PENALTY = 2.0


@dataclasses.dataclass(frozen=True)
class GAN(Generator):
  """Both networks move at once, each along the gradient of its own loss."""

  title = "GAN"
  #: Generator once; discriminator for it, on fake and real images, and for the penalty.
  passes = 5
  rate = 0.2
  selects = False

  def init(self, key: Array) -> PyTree:
    """Generator and discriminator."""
    keys = jax.random.split(key)
    return {
      "decoder": perceptron.init(self.decoder, keys[0], self.noise_size),
      "discriminator": perceptron.init(self._discriminator, keys[1], self.size),
    }

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """The sum of both losses; each reaches the parameters of its own network alone."""
    del prior
    fake = self.decode(parameters, self.noise(random.named(key, "noise"), len(x)))
    blur = _NOISE * random.normal(random.named(key, "blur"), (2, *x.shape))
    fake, real = fake + blur[0], x + blur[1]
    judge = parameters["discriminator"]
    held = jax.lax.stop_gradient(judge)
    fooling = jax.nn.softplus(-self._logit(held, fake)).mean()
    caught = jax.nn.softplus(self._logit(judge, jax.lax.stop_gradient(fake))).mean()
    logits, slope = jax.vjp(lambda image: self._logit(judge, image), real)
    (gradient,) = slope(jnp.ones_like(logits))
    penalty = jnp.square(gradient).sum((1, 2, 3)).mean()
    return fooling + caught + jax.nn.softplus(-logits).mean() + _PENALTY * penalty

  def _logit(self, parameters: PyTree, x: Array) -> Array:
    raw = perceptron.call(self._discriminator, parameters, flat(x) - 0.5)
    return raw[:, 0]

  @property
  def _discriminator(self) -> Perceptron:
    return Perceptron(self.hidden_sizes, 1)
