"""Flow matching: a velocity field that carries noise to images along straight lines.

Lipman et al. (2023), "Flow matching for generative modeling"; Liu et al. (2023), "Flow
straight and fast: learning to generate and transfer data with rectified flow".
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import denoiser
from infusion_jax.peers.denoiser import Denoiser, column
from infusion_jax.peers.peer import LogLikelihood, Sampler, Trained

Array = jax.Array
PyTree = Any

#: Steps of the solver for the likelihood.
_LIKELIHOOD_STEPS = 100
#: Images of up to so many numbers have their divergence summed over all of them.
_SUMMED = 100
#: Random directions in place of that sum, drawn afresh wherever the field is asked.
_PROBES = 4


@dataclasses.dataclass(frozen=True)
class FlowMatching(Denoiser):
  """z_t = (1 - t) e + t y; the velocity v(z, t) is to be y - e (eq. 23)."""

  title = "flow matching"

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """E |v(z_t, t) - (y - e)|^2 over uniform t, per pixel."""
    del prior
    y = denoiser.centred(x)
    noise = random.normal(random.named(key, "noise"), x.shape)
    return self._regression(random.named(key, "time"), parameters, y, noise)

  def _regression(
    self, key: Array, parameters: PyTree, y: Array, noise: Array
  ) -> Array:
    time = random.uniform(key, y.shape[:1])
    t = column(time, y)
    velocity = self.velocity(parameters, (1 - t) * noise + t * y, time)
    return jnp.square(velocity - (y - noise)).mean()

  def velocity(self, parameters: PyTree, z: Array, time: Array) -> Array:
    """(D(z / t, (1 - t) / t) - z) / (1 - t), written so that no time divides by 0.

    Args:
      parameters: of the network.
      z: [B, H, W, C].
      time: [B], or one for all, in [0, 1).
    """
    time = jnp.clip(jnp.broadcast_to(time, z.shape[:1]), 1e-3, 1 - 1e-3)
    t = column(time, z)
    return (self.denoise(parameters, z / t, (1 - time) / time) - z) / (1 - t)

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """Euler's and Heun's method."""
    return {"Euler": self._euler, "Heun": self._heun}

  def _euler(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    z = random.normal(keys, (len(keys), *self.image_shape))
    return denoiser.picture(self.euler(trained.parameters, z, num_calls))

  def euler(self, parameters: PyTree, z: Array, num_calls: Array) -> Array:
    """Follows the velocity from t = 0 to 1 in even steps, one call each."""

    def step(n: Array, z: Array) -> Array:
      return z + self.velocity(parameters, z, n / num_calls) / num_calls

    return jax.lax.fori_loop(0, num_calls, step, z)

  def _heun(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    """Heun's steps of two calls; the last one or two calls are steps of Euler's.

    At t = 1, where a last step of Heun's would ask for it, the velocity is not learned.
    """
    singles = jnp.minimum(num_calls, 2 - num_calls % 2)
    doubles = (num_calls - singles) // 2
    width = 1.0 / (doubles + singles)
    field = functools.partial(self.velocity, trained.parameters)

    def double(n: Array, z: Array) -> Array:
      first = field(z, n * width)
      second = field(z + width * first, (n + 1) * width)
      return z + 0.5 * width * (first + second)

    def single(n: Array, z: Array) -> Array:
      return z + width * field(z, n * width)

    z = random.normal(keys, (len(keys), *self.image_shape))
    z = jax.lax.fori_loop(0, doubles, double, z)
    return denoiser.picture(jax.lax.fori_loop(doubles, doubles + singles, single, z))

  @property
  def likelihoods(self) -> Mapping[str, LogLikelihood]:
    """The density of the flow itself; of large images with an estimated divergence."""
    summed = self.size <= _SUMMED
    name = "exact" if summed else f"unbiased, {_PROBES} probes a step"
    return {name: self.log_likelihood}

  def log_likelihood(self, key: Array, trained: Trained, x: Array) -> Array:
    """log p(x) by the change of variables (Chen et al., 2018), [B] nats.

    The solver is Heun's method in 100 steps. The divergence is exact for images of up
    to 100 numbers; beyond, it is an unbiased estimate (Grathwohl et al., 2019).
    """
    field = functools.partial(self.velocity, trained.parameters)
    along = _all_directions if self.size <= _SUMMED else _random_directions
    z, divergence = _backwards(
      field, denoiser.centred(x), functools.partial(along, key)
    )
    base = Gaussian(jnp.zeros_like(z), jnp.ones_like(z))
    log_p = gaussian.per_image(gaussian.log_density(z, base)) - divergence
    return log_p + self.size * math.log(2.0)


def _all_directions(key: Array, place: Array, z: Array) -> Array:
  """The unit vectors, [d, 1, H, W, C]."""
  del key, place
  return jnp.eye(z[0].size).reshape(-1, 1, *z.shape[1:])


def _random_directions(key: Array, place: Array, z: Array) -> Array:
  """Signs at random, scaled so that their squares sum to d, [probes, B, H, W, C]."""
  keys = random.steps(random.fold_in(key, place), _PROBES)
  signs = jax.vmap(lambda key: jnp.sign(random.normal(key, z.shape)))(keys)
  return signs / math.sqrt(_PROBES)


def _backwards(
  field: Callable[[Array, Array], Array],
  z: Array,
  directions: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
  """Follows dz/dt = field(z, t) from t = 1 to 0.

  Args:
    field: the velocity.
    z: at t = 1.
    directions: of the number of a call and z, along which the divergence is summed.

  Returns:
    z at 0, and the integral of the field's divergence from 0 to 1, [B].
  """
  width = 1.0 / _LIKELIHOOD_STEPS

  def both(z: Array, t: Array, place: Array) -> tuple[Array, Array]:
    def along(direction: Array) -> Array:
      pushed = jnp.broadcast_to(direction, z.shape)
      _, out = jax.jvp(lambda z: field(z, t), (z,), (pushed,))
      return gaussian.per_image(out * pushed)

    return field(z, t), jax.lax.map(along, directions(place, z)).sum(0)

  def step(n: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
    z, total = carry
    first, trace = both(z, 1.0 - n * width, 2 * n)
    second, other = both(z - width * first, 1.0 - (n + 1) * width, 2 * n + 1)
    z = z - 0.5 * width * (first + second)
    return z, total + 0.5 * width * (trace + other)

  return jax.lax.fori_loop(0, _LIKELIHOOD_STEPS, step, (z, jnp.zeros(len(z))))
