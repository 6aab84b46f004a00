"""Consistency training: one call from any noise level to the image.

Song et al. (2023), "Consistency models"; Song and Dhariwal (2024), "Improved techniques
for training consistency models": no averaged teacher, pseudo-Huber distance, levels
drawn from a lognormal, weights 1 / (sigma_(n+1) - sigma_n).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import denoiser
from infusion_jax.peers.denoiser import Denoiser, column
from infusion_jax.peers.peer import Sampler, Trained

Array = jax.Array
PyTree = Any

_SMALLEST, _LARGEST, _RHO = 0.01, 40.0, 7.0
#: Levels in training. The paper lets their number grow; a criterion here knows no step.
_LEVELS = 40
#: Mean and deviation of the logarithm of the levels that are drawn.
_LOG_MEAN, _LOG_DEVIATION = -1.1, 2.0
_HUBER = 0.00054


def level(share: Array) -> Array:
  """Noise levels from the largest, at 0, to the smallest (Karras et al., eq. 5)."""
  low, high = _SMALLEST ** (1 / _RHO), _LARGEST ** (1 / _RHO)
  return (high + share * (low - high)) ** _RHO


@dataclasses.dataclass(frozen=True)
class ConsistencyTraining(Denoiser):
  """D(y + sigma e, sigma) is to be the same at neighbouring levels of one line."""

  title = "consistency training"
  smallest = _SMALLEST
  selects = False

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """The distance of the predictions at levels n + 1 and n, the latter held."""
    del prior
    y = denoiser.centred(x)
    n = jax.random.categorical(random.named(key, "level"), _LOG_ODDS, shape=x.shape[:1])
    levels = jnp.asarray(_TRAINED_LEVELS)
    upper, lower = levels[n + 1], levels[n]
    noise = random.normal(random.named(key, "noise"), x.shape)
    found = self.denoise(parameters, y + column(upper, y) * noise, upper)
    wanted = self.denoise(parameters, y + column(lower, y) * noise, lower)
    square = jnp.square(found - jax.lax.stop_gradient(wanted)).sum((1, 2, 3))
    constant = _HUBER * jnp.sqrt(self.size)
    distance = jnp.sqrt(square + constant**2) - constant
    return (distance / (upper - lower)).mean()

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """Multistep consistency sampling (algorithm 1 of the first)."""
    return {"multistep": self._sample}

  def _sample(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    def step(n: Array, y: Array) -> Array:
      sigma = level(n / num_calls)
      noise = random.normal(random.fold_in(keys, n), y.shape)
      above = jnp.sqrt(jnp.maximum(sigma**2 - _SMALLEST**2, 0.0))
      return self.denoise(trained.parameters, y + above * noise, sigma)

    start = jnp.zeros((len(keys), *self.image_shape))
    return denoiser.picture(jax.lax.fori_loop(0, num_calls, step, start))


def _log_odds(levels: np.ndarray) -> np.ndarray:
  """log of the lognormal's mass between neighbouring levels, by its density there."""
  logs = np.log(levels)
  middle = 0.5 * (logs[1:] + logs[:-1])
  return np.log(np.diff(logs)) - 0.5 * ((middle - _LOG_MEAN) / _LOG_DEVIATION) ** 2


_TRAINED_LEVELS = np.asarray(level(np.linspace(1.0, 0.0, _LEVELS)), np.float32)
_LOG_ODDS = _log_odds(_TRAINED_LEVELS)
