"""The generative stochastic network: noise in the hidden units, trained by walkback.

Bengio et al. (2014), "Deep generative stochastic networks trainable by backprop".
"""

import dataclasses
from typing import Any

import jax

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers.denoising_autoencoder import DenoisingAutoencoder

Array = jax.Array
PyTree = Any

#: Steps of a walk in training; each is to find back to where the walk began.
_WALKBACK = 3
#: The chance to go on after a step, by which the steps' losses are weighted (algorithm
#: 1 of Bengio et al., 2013). With equal weights over five steps, which forget where
#: they began, the network learned to draw the mean of all images.
_GOES_ON = 0.5


@dataclasses.dataclass(frozen=True)
class GSN(DenoisingAutoencoder):
  """A denoising autoencoder that learns from the states of its own walks, too."""

  title = "GSN, walkback"
  passes = _WALKBACK
  hidden_noise = 0.5

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """- log p(x | z_k) over the states z_k of walks from x, per pixel (section 4.3)."""
    del prior
    total, state = 0.0, x
    for step, own in enumerate(jax.random.split(key, _WALKBACK)):
      p = self.reconstruct(own, parameters, state)
      total = total - _GOES_ON**step * gaussian.log_density(x, p).mean()
      drawn = gaussian.sample(random.named(own, "state"), p)
      state = jax.lax.stop_gradient(drawn) if step + 1 < _WALKBACK else state
    return total / sum(_GOES_ON**step for step in range(_WALKBACK))
