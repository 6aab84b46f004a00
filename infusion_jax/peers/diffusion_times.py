"""The noise of a diffusion over time, and which few of its times to visit.

The forward process has the cosine levels of Nichol and Dhariwal (2021), "Improved
denoising diffusion probabilistic models": under the linear variances of Ho et al.
(2020) small images are noise alone for a third of the times. Watson et al. (2021),
"Learning to efficiently sample from diffusion probabilistic models", choose the times.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax.peers.peer import Trained

Array = jax.Array

#: Times of the forward process.
NUM_TIMES = 1000


def cosine_levels() -> np.ndarray:
  """alpha-bar of the times 0 ... 1000 (Nichol and Dhariwal, eq. 17)."""
  share = np.arange(NUM_TIMES + 1) / NUM_TIMES
  level = np.square(np.cos((share + 0.008) / 1.008 * math.pi / 2))
  variances = np.minimum(1.0 - level[1:] / level[:-1], 0.999)
  return np.append(1.0, np.cumprod(1.0 - variances))


KEPT = cosine_levels()
#: Times that the best steps are chosen from: log snr falls by about as much each.
CANDIDATES = np.unique(np.round(np.geomspace(1, NUM_TIMES, 142)).astype(np.int32))
#: Time number 1 ... N of a chain of N calls: of trained peer, number and N.
Times = Callable[[Trained, Array, Array], Array]


class Calibration(NamedTuple):
  """What is found on validation images.

  Attributes:
    error: [M], E |y - D(z_t, t)|^2 per image at the candidates.
    best: [M, M]; row K - 1 begins with the K candidates of the best bound, ascending.
  """

  error: Array
  best: Array


def best_times(trained: Trained, place: Array, num_calls: Array) -> Array:
  """Time number `place` = 1 ... N of the best N; of even ones beyond the candidates."""
  count = len(CANDIDATES)
  row = jnp.minimum(num_calls, count) - 1
  best = jnp.asarray(CANDIDATES)[trained.calibration.best[row, place - 1]]
  return jnp.where(num_calls > count, even_times(trained, place, num_calls), best)


def even_times(trained: Trained, place: Array, num_calls: Array) -> Array:
  """Times T / N, 2 T / N, ..., T."""
  del trained
  return jnp.round(place * (NUM_TIMES / num_calls)).astype(jnp.int32)


def best_paths(error: np.ndarray, size: int) -> np.ndarray:
  """The times of the best bound for every number of calls, by dynamic programming.

  A bound is a sum over neighbouring times (Watson et al., 2021, section 3):

      size/2 log(2 pi e error_1 / size) + sum_k (snr_(k-1) - snr_k) error_k / 2

  Args:
    error: [M], mean squared error per image at the candidates.
    size: numbers of an image.

  Returns:
    [M, M] int32: row K - 1 begins with K ascending candidates, the last of them M - 1.
  """
  count = len(error)
  snr = 1.0 / _sigma_of(CANDIDATES[:count]) ** 2
  step = 0.5 * (snr[:, None] - snr[None, :]) * error[None, :]
  step[np.tril_indices(count)] = np.inf
  cost = 0.5 * size * np.log(2 * math.pi * math.e * error / size)
  came, best = [], np.zeros((count, count), np.int32)
  for calls in range(1, count + 1):
    at = count - 1
    for place in range(calls - 1, -1, -1):
      best[calls - 1, place] = at
      at = came[place - 1][at] if place else at
    total = cost[:, None] + step
    came.append(total.argmin(0))
    cost = total.min(0)
  return best


def _sigma_of(time: np.ndarray) -> np.ndarray:
  return np.sqrt(1.0 / KEPT[time] - 1.0)


def sigma(time: Array) -> Array:
  """Deviation of the noise relative to y at whole times."""
  return jnp.asarray(np.sqrt(1.0 / KEPT - 1.0), jnp.float32)[time]
