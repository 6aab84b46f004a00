"""The denoising autoencoder as a generative model: corrupt, reconstruct, and again.

Vincent et al. (2008), "Extracting and composing robust features with denoising
autoencoders"; Bengio et al. (2013), "Generalized denoising auto-encoders as generative
models".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random
from infusion_jax.chain import repeat_for_batch
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import perceptron
from infusion_jax.peers.peer import Peer, Sampler, Trained, flat
from infusion_jax.peers.perceptron import Heads, Perceptron

Array = jax.Array
PyTree = Any

#: Share of the pixels that become black or white (0.4 in Bengio et al., 2014).
_CORRUPTED = 0.4


@dataclasses.dataclass(frozen=True)
class DenoisingAutoencoder(Peer):
  """Learns p(x | corrupted x); a walk alternates between the two."""

  title = "denoising autoencoder"
  #: Deviation of the noise in the hidden units.
  hidden_noise = 0.0

  def init(self, key: Array) -> PyTree:
    """Initial parameters of the autoencoder."""
    return perceptron.init(self._network, key, self.size)

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """- log p(x | corrupted x), per pixel."""
    del prior
    return -gaussian.log_density(x, self.reconstruct(key, parameters, x)).mean()

  def reconstruct(self, key: Array, parameters: PyTree, x: Array) -> Gaussian:
    """p(. | corrupted x) for a corruption drawn here; one network call."""
    corrupted = salted(random.fold_in(key, 0), x)
    inputs = flat(corrupted) - 0.5
    raw = perceptron.call(
      self._network, parameters, inputs, None, random.fold_in(key, 1)
    )
    return Heads(self.image_shape)(raw)

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """A walk from the prior of the pixels; the picture is the last mean."""
    return {"walk": self._walk}

  def _walk(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    def step(n: Array, p: Gaussian) -> Gaussian:
      key = random.fold_in(keys, n)
      x = gaussian.sample(random.named(key, "state"), p)
      return self.reconstruct(key, trained.parameters, x)

    start = repeat_for_batch(trained.prior, len(keys))
    return jax.lax.fori_loop(0, num_calls, step, start).mean

  @property
  def _network(self) -> Perceptron:
    return Perceptron(self.hidden_sizes, 2 * self.size, self.hidden_noise)


def salted(key: Array, x: Array) -> Array:
  """Salt-and-pepper noise: some pixels of [B, H, W, C] become 0 or 1."""
  chance = random.uniform(random.fold_in(key, 0), x.shape)
  salt = random.uniform(random.fold_in(key, 1), x.shape) < 0.5
  return jnp.where(chance < _CORRUPTED, salt.astype(x.dtype), x)
