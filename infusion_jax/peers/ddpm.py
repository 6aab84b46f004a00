"""Denoising diffusion with its bound, and with the steps that suit the bound best.

Sohl-Dickstein et al. (2015), "Deep unsupervised learning using nonequilibrium
thermodynamics"; Ho et al. (2020), "Denoising diffusion probabilistic models"; Song et
al. (2021), "Denoising diffusion implicit models"; Watson et al. (2021), "Learning to
efficiently sample from diffusion probabilistic models".
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import denoiser
from infusion_jax.peers import diffusion_times as times
from infusion_jax.peers.denoiser import Denoiser, column
from infusion_jax.peers.peer import LogLikelihood, Sampler, Trained

Array = jax.Array
PyTree = Any

#: Noisy versions of the validation images at each of them.
_REPEATS = 2


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
    time = jax.random.randint(
      random.named(key, "time"), x.shape[:1], 1, times.NUM_TIMES + 1
    )
    sigma = times.sigma(time)
    found = self.denoise(parameters, *_noisy(random.named(key, "noise"), y, sigma))
    weight = 1.0 + 1.0 / jnp.square(column(sigma, y))
    return (weight * jnp.square(found - y)).mean()

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """Ancestral, with even or best steps, and DDIM with even ones."""
    return {
      "ancestral": functools.partial(self._sample, times.even_times, _ancestral),
      "ancestral, best steps": functools.partial(
        self._sample, times.best_times, _ancestral
      ),
      "DDIM": functools.partial(self._sample, times.even_times, _implicit),
    }

  def _sample(
    self,
    choose: times.Times,
    move: Any,
    trained: Trained,
    keys: Array,
    num_calls: Array,
  ) -> Array:
    kept = jnp.asarray(times.KEPT, jnp.float32)

    def step(n: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
      z, _ = carry
      left = num_calls - n
      time = choose(trained, left, num_calls)
      after = jnp.where(left > 1, choose(trained, left - 1, num_calls), 0)
      found = self.denoise(
        trained.parameters, z / jnp.sqrt(kept[time]), times.sigma(time)
      )
      noise = random.normal(random.fold_in(keys, n + 1), z.shape)
      return move(z, found, kept[time], kept[after], noise), found

    z = random.normal(random.fold_in(keys, 0), (len(keys), *self.image_shape))
    _, found = jax.lax.fori_loop(0, num_calls, step, (z, z))
    return denoiser.picture(found)

  def calibrate(self, key: Array, trained: Trained, x: Array) -> times.Calibration:
    """Errors at the candidates, and the best steps for every number of calls."""
    error = np.asarray(_errors(self, key, trained.parameters, x))
    return times.Calibration(
      jnp.asarray(error), jnp.asarray(times.best_paths(error, self.size))
    )

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
    t = times.best_times(trained, jnp.arange(1, num_calls + 1), num_calls)
    y = denoiser.centred(x)
    snr = jnp.append(jnp.inf, 1.0 / jnp.square(times.sigma(t)))

    def error(n: Array) -> Array:
      noise = random.fold_in(key, n)
      found = self.denoise(trained.parameters, *_noisy(noise, y, times.sigma(t[n])))
      return gaussian.per_image(jnp.square(found - y))

    errors = jax.lax.map(error, jnp.arange(num_calls))
    steps = 0.5 * ((snr[1:-1] - snr[2:])[:, None] * errors[1:]).sum(0)
    first = trained.calibration.best[num_calls - 1, 0]
    variance = trained.calibration.error[first] / self.size
    output = 0.5 * (errors[0] / variance + self.size * jnp.log(2 * math.pi * variance))
    return self.size * math.log(2.0) - _prior_cost(y) - steps - output


@functools.partial(jax.jit, static_argnums=0)
def _errors(peer: DDPM, key: Array, parameters: PyTree, x: Array) -> Array:
  y = denoiser.centred(jnp.concatenate([x] * _REPEATS))

  def error(time: Array) -> Array:
    noise = random.fold_in(key, time)
    found = peer.denoise(parameters, *_noisy(noise, y, times.sigma(time)))
    return jnp.square(found - y).sum() / len(y)

  return jax.lax.map(error, jnp.asarray(times.CANDIDATES))


def _noisy(key: Array, y: Array, sigma: Array) -> tuple[Array, Array]:
  return y + column(sigma, y) * random.normal(key, y.shape), sigma


def _prior_cost(y: Array) -> Array:
  """KL(q(z_T | y) || N(0, I)), [B] nats."""
  kept, size = times.KEPT[-1], y[0].size
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
