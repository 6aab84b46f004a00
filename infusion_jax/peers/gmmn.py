"""The generative moment matching network in the code space of an autoencoder.

Li et al. (2015), "Generative moment matching networks" (GMMN + AE).
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

#: Widths of the kernels.
BANDWIDTHS = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
_CODE = 32
#: Generated codes for each image of a mini-batch: small batches tell little.
_REPEATS = 4


@dataclasses.dataclass(frozen=True)
class GMMN(Generator):
  """noise -> code -> picture; codes are to have the moments of the images' codes."""

  title = "GMMN"
  passes = 3

  def init(self, key: Array) -> PyTree:
    """Encoder, decoder and the generator of codes."""
    keys = jax.random.split(key, 3)
    return {
      "encoder": perceptron.init(self._coder, keys[0], self.size),
      "decoder": perceptron.init(self.decoder, keys[1], _CODE),
      "generator": perceptron.init(self._coder, keys[2], self.noise_size),
    }

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """The autoencoder's squared error, and the root of the squared MMD of the codes.

    The autoencoder is dropped out of the second term, and learns at the same time.
    """
    del prior
    code = self._code(parameters["encoder"], flat(x) - 0.5)
    error = jnp.square(super().decode(parameters, code) - x).mean()
    noise = self.noise(random.named(key, "noise"), _REPEATS * len(x))
    made = self._code(parameters["generator"], noise)
    return error + root_mmd(made, jax.lax.stop_gradient(code))

  def decode(self, parameters: PyTree, noise: Array) -> Array:
    """Means [B, H, W, C] of noise [B, noise_size]; two network calls."""
    return super().decode(parameters, self._code(parameters["generator"], noise))

  def calls(self, num_calls: int) -> int:
    """Two: the code's and the picture's."""
    return 2

  def _code(self, parameters: PyTree, inputs: Array) -> Array:
    return jax.nn.sigmoid(perceptron.call(self._coder, parameters, inputs))

  @property
  def _coder(self) -> Perceptron:
    return Perceptron(self.hidden_sizes, _CODE)


def root_mmd(first: Array, second: Array) -> Array:
  """Root of the squared MMD of [N, d] and [M, d] (eq. 3), Gaussian kernels summed."""

  def kernel(a: Array, b: Array) -> Array:
    # One matrix product: the differences themselves would be [N, M, d].
    lengths = jnp.square(a).sum(-1)[:, None] + jnp.square(b).sum(-1)
    distance = jnp.maximum(lengths - 2 * a @ b.T, 0.0)
    return sum(jnp.exp(-distance / (2 * width**2)) for width in BANDWIDTHS).mean()

  squared = kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
  return jnp.sqrt(jnp.maximum(squared, 1e-9))
