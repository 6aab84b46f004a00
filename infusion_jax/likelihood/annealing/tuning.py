"""Pilot annealings: step sizes, a mass matrix, and where temperatures matter.

All of it is fixed before the annealing that counts, from random streams of its
own, so that the weights stay unbiased.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import random
from infusion_jax.chain import MarkovChain
from infusion_jax.errors import UserError
from infusion_jax.likelihood.annealing import estimator, temperatures
from infusion_jax.likelihood.annealing.decoder import Decoder
from infusion_jax.likelihood.annealing.estimator import (
  LARGEST_ANGLE,
  MOVES,
  Moves,
  Schedule,
)
from infusion_jax.likelihood.importance import check_counts

Array = jax.Array
PyTree = Any

# Weight of the newest temperature in the running mean of squared gradients.
_NEWEST = 0.02
# Temperatures over which step sizes are averaged; odd.
_WINDOW = 9


class Pilot(NamedTuple):
  """What a pilot annealing found, J legs of N images.

  Attributes:
    schedule: its temperatures and scale, with the step size of each image at
      each temperature.
    curvature: [T, H, W, C], mean squared gradient of the log-posterior at the
      last temperatures, which in equilibrium is its mean curvature; 1 is the
      prior's own.
    acceptance: [J, N], mean acceptance probability of an image's chains.
    level: [J, N], mean log p(x | eps) of an image's chains, nats.
    variance: [J, N], its variance over an image's chains (0 for one chain).
  """

  schedule: Schedule
  curvature: np.ndarray
  acceptance: np.ndarray
  level: np.ndarray
  variance: np.ndarray


def pilot(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  base: Schedule,
  *,
  num_chains: int = 2,
  moves: Moves = MOVES,
  acceptance: float = 0.9,
  gain: float = 0.15,
) -> Pilot:
  """Anneals once, following the acceptance probability with the step size.

  An image's step size is that of `base` times a factor, which after each
  temperature grows or shrinks:

      log factor <- log factor + gain (acceptance of its chains - wanted)

  Neighbouring temperatures want nearly the same factor, so a slow correction
  keeps up. What it found is averaged over a few neighbours.

  Args:
    keys: [N], one per image, the pilot's own.
    model: the chain, or another decoder.
    x: [N, H, W, C], the images that are to be annealed, or others like them.
    base: temperatures, first guess of the step sizes, and scale.
    num_chains: chains per image.
    moves: those of the annealing to be tuned.
    acceptance: the mean acceptance probability wanted, in (0, 1).
    gain: speed of the correction.

  Returns:
    The pilot.

  Raises:
    UserError: the acceptance wanted is not in (0, 1).
  """
  check_counts(num_chains=num_chains)
  check_acceptance(acceptance)
  angles, curvature, found = _pilot(
    keys,
    model,
    x,
    base.legs(),
    base.scale,
    acceptance,
    gain,
    num_chains=num_chains,
    moves=moves,
  )
  schedule = base._replace(angles=_smooth(np.asarray(angles)))
  return Pilot(schedule, *(np.asarray(v) for v in (curvature, *found)))


@functools.partial(jax.jit, static_argnames=("num_chains", "moves"))
def _pilot(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  legs: estimator.Leg,
  scale: Array,
  wanted: Array,
  gain: Array,
  *,
  num_chains: int,
  moves: Moves,
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
  """[J, N] angles, curvature, and [J, N] acceptance, level and variance."""
  state = estimator.begin(keys, model, x, num_chains=num_chains)
  rows, evaluate = estimator.rows(keys, model, x, num_chains=num_chains)

  def body(carry: tuple, leg: estimator.Leg) -> tuple[tuple, tuple]:
    state, log_factor, curvature = carry
    level = state.point.log_likelihood.reshape(-1, num_chains)
    angle = jnp.minimum(leg.angle * jnp.exp(log_factor), LARGEST_ANGLE)
    state, probability = estimator.follow(
      rows, evaluate, state, leg._replace(angle=angle), scale, moves
    )
    mean = probability.reshape(-1, num_chains).mean(1)
    slope = leg.after * state.point.gradient - state.point.position
    newest = jnp.square(slope).mean(0)
    # Growth beyond the largest angle has no effect and would delay the way back.
    log_factor = jnp.minimum(
      log_factor + gain * (mean - wanted), jnp.log(LARGEST_ANGLE / leg.angle)
    )
    curvature = curvature + _NEWEST * (newest - curvature)
    variance = level.var(1, ddof=min(1, num_chains - 1))
    return (state, log_factor, curvature), (angle, (mean, level.mean(1), variance))

  initial = state, jnp.zeros(x.shape[0]), jnp.ones(state.point.position.shape[1:])
  (_, _, curvature), (angles, found) = jax.lax.scan(body, initial, legs)
  return angles, curvature, found


def check_acceptance(acceptance: float) -> None:
  """Raises UserError unless the acceptance wanted can be reached."""
  if not 0 < acceptance < 1:
    raise UserError(f"acceptance is {acceptance}; a probability in (0, 1) is needed")


def _smooth(angles: np.ndarray) -> np.ndarray:
  """[J, N] to [J+1, N]: geometric mean of neighbours; the first is repeated."""
  logs = np.log(angles.astype(np.float64))
  half = min(_WINDOW, len(logs)) // 2
  padded = np.pad(logs, ((half + 1, half), (0, 0)), mode="edge")
  windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
  return np.exp(windows.mean(-1)).astype(np.float32)


def resampled(schedule: Schedule, betas: np.ndarray) -> Schedule:
  """The same step sizes at other temperatures.

  Between two temperatures of the old schedule log angle is linear in log beta;
  below its first temperature above 0 the angle stays.

  Args:
    schedule: betas [K+1], angles [K+1] or [K+1, N].
    betas: [J+1] from 0 to 1.

  Returns:
    The schedule with J legs.
  """
  old = np.asarray(schedule.betas, np.float64)
  angles = np.asarray(schedule.angles, np.float64)
  at, known = (np.log(np.maximum(b, old[1])) for b in (betas, old))
  columns = np.log(angles).reshape(len(old), -1).T
  found = np.stack([np.interp(at, known[1:], column[1:]) for column in columns], -1)
  found = np.exp(found).reshape(len(betas), *angles.shape[1:])
  return schedule._replace(
    betas=np.asarray(betas, np.float32), angles=found.astype(np.float32)
  )


def adapted(found: Pilot, num_legs: int) -> np.ndarray:
  """More temperatures where log p(x | eps) varies more, [J+1].

  For chains in equilibrium a leg from beta to beta + d costs d^2 Var / 2 nats
  in expectation; a density of Var^(1/2) makes the costs equal.

  Args:
    found: a pilot with at least two chains per image.
    num_legs: J.
  """
  density = np.sqrt(found.variance.mean(1))
  return temperatures.respaced(found.schedule.betas, density, num_legs)


def tune(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  betas: np.ndarray | Callable[[Pilot], np.ndarray],
  *,
  coarse_legs: int = 150,
  fine_legs: int | None = None,
  **options: Any,
) -> Schedule:
  """A schedule for some images, by two pilots.

  A geometric one follows the step size down over many orders of beta and finds
  the scale of each coordinate, the inverse root of its curvature; a second one,
  at temperatures spaced as those asked for, corrects the step sizes.

  Args:
    keys: [N], one per image, the tuning's own.
    model: the chain, or another decoder.
    x: [N, H, W, C], the images that are to be annealed.
    betas: [J+1] from 0 to 1, or what makes them of the first pilot (`adapted`).
    coarse_legs: legs of the first pilot.
    fine_legs: legs of the second; J / 2 if None.
    **options: of `pilot`.

  Returns:
    Temperatures, step sizes [J+1, N] and scale.
  """
  coarse = temperatures.geometric(coarse_legs).astype(np.float32)
  start = np.full((coarse_legs + 1, len(x)), LARGEST_ANGLE, np.float32)
  wide = Schedule(coarse, start, np.float32(1))
  first = pilot(random.fold_in(keys, 0), model, x, wide, **options)
  scale = 1.0 / np.sqrt(np.maximum(first.curvature, 1e-3))
  base = first.schedule._replace(scale=scale.astype(np.float32))
  betas = betas(first) if callable(betas) else betas
  count = fine_legs or max(2, (len(betas) - 1) // 2)
  spaced = np.interp(np.linspace(0, 1, count + 1), np.linspace(0, 1, len(betas)), betas)
  fine = resampled(base, spaced)
  second = pilot(random.fold_in(keys, 1), model, x, fine, **options)
  return resampled(second.schedule, betas)
