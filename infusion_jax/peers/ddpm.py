"""Denoising diffusion with its bound, and with the steps that suit the bound best.

Sohl-Dickstein et al. (2015), "Deep unsupervised learning using nonequilibrium
thermodynamics"; Ho et al. (2020), "Denoising diffusion probabilistic models"; Song et
al. (2021), "Denoising diffusion implicit models"; Watson et al. (2021), "Learning to
efficiently sample from diffusion probabilistic models".
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import denoiser
from infusion_jax.peers.denoiser import Denoiser, column
from infusion_jax.peers.peer import LogLikelihood, Sampler, Trained

Array = jax.Array
PyTree = Any

#: Times of the forward process, and its linear variances (Ho et al., section 4).
NUM_TIMES = 1000
_BETAS = np.linspace(1e-4, 0.02, NUM_TIMES)
#: alpha-bar of the times 0 ... 1000.
KEPT = np.append(1.0, np.cumprod(1.0 - _BETAS))
#: Times that the best steps are chosen from: log snr falls by about as much each.
CANDIDATES = np.unique(np.round(np.geomspace(1, NUM_TIMES, 142)).astype(np.int32))
#: Noisy versions of the validation images at each of them.
_REPEATS = 2


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


@dataclasses.dataclass(frozen=True)
class DDPM(Denoiser):
  """z_t = sqrt(kept_t) y + sqrt(1 - kept_t) e, t = 1 ... 1000, undone step by step."""

  title = "DDPM"

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """E (snr + 1) |y - D(z_t, t)|^2 over uniform t, per pixel.

    These are the weights of Salimans and Ho (2022, section 4). L_simple (eq. 14) has
    snr alone, and leaves the noisiest times, where digits take shape, nearly unlearned.
    """
    del prior
    y = denoiser.centred(x)
    time = jax.random.randint(random.named(key, "time"), x.shape[:1], 1, NUM_TIMES + 1)
    sigma = _sigma(time)
    found = self.denoise(parameters, *_noisy(random.named(key, "noise"), y, sigma))
    weight = 1.0 + 1.0 / jnp.square(column(sigma, y))
    return (weight * jnp.square(found - y)).mean()

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """Ancestral, with even or best steps, and DDIM with even ones."""
    return {
      "ancestral": functools.partial(self._sample, even_times, _ancestral),
      "ancestral, best steps": functools.partial(self._sample, best_times, _ancestral),
      "DDIM": functools.partial(self._sample, even_times, _implicit),
    }

  def _sample(
    self, times: Times, move: Any, trained: Trained, keys: Array, num_calls: Array
  ) -> Array:
    kept = jnp.asarray(KEPT, jnp.float32)

    def step(n: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
      z, _ = carry
      left = num_calls - n
      time = times(trained, left, num_calls)
      after = jnp.where(left > 1, times(trained, left - 1, num_calls), 0)
      found = self.denoise(trained.parameters, z / jnp.sqrt(kept[time]), _sigma(time))
      noise = random.normal(random.fold_in(keys, n + 1), z.shape)
      return move(z, found, kept[time], kept[after], noise), found

    z = random.normal(random.fold_in(keys, 0), (len(keys), *self.image_shape))
    _, found = jax.lax.fori_loop(0, num_calls, step, (z, z))
    return denoiser.picture(found)

  def calibrate(self, key: Array, trained: Trained, x: Array) -> Calibration:
    """Errors at the candidates, and the best steps for every number of calls."""
    error = np.asarray(_errors(self, key, trained.parameters, x))
    return Calibration(jnp.asarray(error), jnp.asarray(best_paths(error, self.size)))

  @property
  def likelihoods(self) -> Mapping[str, LogLikelihood]:
    """The bound of the chains of 15 and of 50 best steps."""
    return {
      f"bound, {count} best steps": functools.partial(self.bound, num_calls=count)
      for count in (15, 50)
    }

  def bound(self, key: Array, trained: Trained, x: Array, *, num_calls: int) -> Array:
    """The variational bound of the chain of best steps (eq. 5), [B] nats.

    A step from t to s < t costs (snr_s - snr_t) |y - D(z_t)|^2 / 2 (Kingma et al.,
    2021, eq. 13); the last output's variance is the error on validation images.
    """
    t = best_times(trained, jnp.arange(1, num_calls + 1), num_calls)
    y = denoiser.centred(x)
    snr = jnp.append(jnp.inf, 1.0 / jnp.square(_sigma(t)))

    def error(n: Array) -> Array:
      noise = random.fold_in(key, n)
      found = self.denoise(trained.parameters, *_noisy(noise, y, _sigma(t[n])))
      return gaussian.per_image(jnp.square(found - y))

    errors = jax.lax.map(error, jnp.arange(num_calls))
    steps = 0.5 * ((snr[1:-1] - snr[2:])[:, None] * errors[1:]).sum(0)
    first = trained.calibration.best[num_calls - 1, 0]
    variance = trained.calibration.error[first] / self.size
    output = 0.5 * (errors[0] / variance + self.size * jnp.log(2 * math.pi * variance))
    return self.size * math.log(2.0) - _prior_cost(y) - steps - output


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


@functools.partial(jax.jit, static_argnums=0)
def _errors(peer: DDPM, key: Array, parameters: PyTree, x: Array) -> Array:
  y = denoiser.centred(jnp.concatenate([x] * _REPEATS))

  def error(time: Array) -> Array:
    noise = random.fold_in(key, time)
    found = peer.denoise(parameters, *_noisy(noise, y, _sigma(time)))
    return jnp.square(found - y).sum() / len(y)

  return jax.lax.map(error, jnp.asarray(CANDIDATES))


def _sigma_of(time: np.ndarray) -> np.ndarray:
  return np.sqrt(1.0 / KEPT[time] - 1.0)


def _sigma(time: Array) -> Array:
  """Deviation of the noise relative to y at whole times."""
  return jnp.asarray(np.sqrt(1.0 / KEPT - 1.0), jnp.float32)[time]


def _noisy(key: Array, y: Array, sigma: Array) -> tuple[Array, Array]:
  return y + column(sigma, y) * random.normal(key, y.shape), sigma


def _prior_cost(y: Array) -> Array:
  """KL(q(z_T | y) || N(0, I)), [B] nats."""
  kept, size = KEPT[-1], y[0].size
  square = gaussian.per_image(jnp.square(y))
  return 0.5 * (kept * square - size * kept - size * math.log1p(-kept))


def _ancestral(z: Array, y: Array, now: Array, after: Array, noise: Array) -> Array:
  """A draw of q(z_s | z_t, y) (Ho et al., eq. 7)."""
  ratio = now / after
  mean = jnp.sqrt(ratio) * (1 - after) * z + jnp.sqrt(after) * (1 - ratio) * y
  deviation = jnp.sqrt((1 - ratio) * (1 - after) / (1 - now))
  return mean / (1 - now) + deviation * noise


def _implicit(z: Array, y: Array, now: Array, after: Array, noise: Array) -> Array:
  """The same noise at another level (Song et al., eq. 12 with eta = 0)."""
  del noise
  found = (z - jnp.sqrt(now) * y) / jnp.sqrt(1 - now)
  return jnp.sqrt(after) * y + jnp.sqrt(1 - after) * found
