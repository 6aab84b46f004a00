"""A denoiser for all noise levels, shared by diffusion, flows and consistency models.

Images are centred, y = 2 x - 1. From a noisy y + sigma e the network F makes

    D(z, sigma) = c_skip z + c_out F(c_in z, log(sigma) / 4),

with the coefficients of Karras et al. (2022, table 1), under which inputs and targets
of F have about unit variance at every sigma. F has two outputs a pixel, as infusion's
network has: a number, and a factor of the pixel itself. Where there is little noise the
target is the noise of every single pixel, and layers with fewer units than pixels
cannot pass it through.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax.peers import perceptron
from infusion_jax.peers.peer import Peer
from infusion_jax.peers.perceptron import Perceptron

Array = jax.Array
PyTree = Any

#: Root mean square of a centred pixel (Karras et al. have 0.5 for photographs).
SIGMA_DATA = 0.75


def centred(x: Array) -> Array:
  """[0, 1] to [-1, 1]."""
  return 2.0 * x - 1.0


def picture(y: Array) -> Array:
  """[-1, 1] to [0, 1], what lies outside cut off."""
  return jnp.clip(0.5 * (y + 1.0), 0.0, 1.0)


def column(values: Array, like: Array) -> Array:
  """[B] numbers, or one, broadcastable to [B, H, W, C]."""
  rows = jnp.broadcast_to(values, like.shape[:1])
  return rows.reshape(-1, *(1,) * (like.ndim - 1))


@dataclasses.dataclass(frozen=True)
class Denoiser(Peer):
  """A peer whose only network is a denoiser."""

  #: D(z, SMALLEST) = z where it is above 0 (consistency models).
  smallest = 0.0

  def init(self, key: Array) -> PyTree:
    """Initial parameters of F."""
    return perceptron.init(self._network, key, self.size, timed=True)

  def denoise(self, parameters: PyTree, z: Array, sigma: Array) -> Array:
    """The prediction of y from z = y + sigma e, [B, H, W, C]; one network call.

    Args:
      parameters: of F.
      z: [B, H, W, C].
      sigma: [B], or one for all.
    """
    sigma = jnp.broadcast_to(sigma, z.shape[:1])
    skip, out, scale = (column(c, z) for c in self._coefficients(sigma))
    time = 0.25 * jnp.log(jnp.maximum(sigma, 1e-4))
    inputs = (scale * z).reshape(len(z), -1)
    both = perceptron.call(self._network, parameters, inputs, time)
    raw, factor = jnp.split(both, 2, axis=-1)
    return skip * z + out * (raw + factor * inputs).reshape(z.shape)

  def _coefficients(self, sigma: Array) -> tuple[Array, Array, Array]:
    total = jnp.sqrt(sigma**2 + SIGMA_DATA**2)
    above = sigma - self.smallest
    skip = SIGMA_DATA**2 / (above**2 + SIGMA_DATA**2)
    return skip, above * SIGMA_DATA / total, 1.0 / total

  @property
  def _network(self) -> Perceptron:
    return Perceptron(self.hidden_sizes, 2 * self.size)
