"""A pilot annealing: step sizes, and where temperatures are needed most.

Both are fixed before the annealing that counts, from random streams of their
own, so its weights stay unbiased.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from infusion_jax.chain import Transition
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import annealed, temperatures
from infusion_jax.likelihood.annealed import Moves, Schedule

Array = jax.Array
PyTree = Any

# A larger rotation would turn back.
LARGEST_ANGLE = 0.5 * math.pi


class Pilot(NamedTuple):
  """What a pilot annealing found, J legs of N images.

  Attributes:
    schedule: its temperatures, with a step size for each of them and each image.
    acceptance: [J, N], mean acceptance probability of an image's chains.
    level: [J, N], mean log p(x | eps) of an image's chains, nats.
    variance: [J, N], its variance over an image's chains (0 for one chain).
  """

  schedule: Schedule
  acceptance: np.ndarray
  level: np.ndarray
  variance: np.ndarray


def pilot(
  key: Array,
  transition: Transition,
  steps: PyTree,
  prior: Gaussian,
  x: Array,
  betas: np.ndarray,
  *,
  num_chains: int = 4,
  moves: Moves = annealed.MOVES,
  acceptance: float = 0.9,
  gain: float = 0.15,
  unroll: int | bool = 1,
) -> Pilot:
  """Anneals once, following the acceptance probability with the step size.

  After each temperature an image's step size grows or shrinks,

      log angle <- log angle + gain (acceptance of its chains - wanted).

  Neighbouring temperatures want nearly the same step, so a slow correction
  keeps up with hundreds of them.

  Args:
    key: the pilot's own key.
    transition: see `importance.estimate_batches`.
    steps: leaves [T, ...].
    prior: p^(0), [H, W, C].
    x: [N, H, W, C], the images that are to be annealed, or others like them.
    betas: [J+1] from 0 to 1.
    num_chains: chains per image.
    moves: those of the annealing to be tuned.
    acceptance: the mean acceptance probability wanted, in (0, 1).
    gain: speed of the correction.
    unroll: see `annealed.decode`.

  Returns:
    The pilot.

  Raises:
    UserError: the acceptance wanted is not in (0, 1).
  """
  if not 0 < acceptance < 1:
    raise UserError(f"acceptance is {acceptance}; a probability in (0, 1) is needed")
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(x)))
  betas = np.asarray(betas, np.float32)
  angles, found = _pilot(
    keys,
    Partial(transition),
    steps,
    prior,
    x,
    Schedule(betas, np.zeros_like(betas)).legs(),
    acceptance,
    gain,
    num_chains=num_chains,
    moves=moves,
    unroll=unroll,
  )
  angles = np.asarray(angles)
  angles = np.concatenate([angles[:1], angles])
  return Pilot(Schedule(betas, angles), *(np.asarray(v) for v in found))


@functools.partial(jax.jit, static_argnames=("num_chains", "moves", "unroll"))
def _pilot(
  keys, transition, steps, prior, x, legs, wanted, gain, *, num_chains, moves, unroll
):
  """[J, N] angles, acceptance, level and variance."""
  options = {"num_chains": num_chains, "unroll": unroll}
  state = annealed.begin(keys, transition, steps, prior, x, **options)
  rows, evaluate = annealed.rows(keys, transition, steps, prior, x, **options)

  def body(carry, leg):
    state, log_angle = carry
    level = state.point.log_likelihood.reshape(-1, num_chains)
    angle = jnp.exp(log_angle)
    leg = leg._replace(angle=angle)
    state, probability = annealed.follow(rows, evaluate, state, leg, moves)
    mean = probability.reshape(-1, num_chains).mean(1)
    log_angle = log_angle + gain * (mean - wanted)
    log_angle = jnp.minimum(log_angle, math.log(LARGEST_ANGLE))
    variance = level.var(1, ddof=min(1, num_chains - 1))
    return (state, log_angle), (angle, (mean, level.mean(1), variance))

  log_angle = jnp.full(x.shape[0], math.log(LARGEST_ANGLE))
  _, found = jax.lax.scan(body, (state, log_angle), legs)
  return found


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
  first = old[1]
  at, known = (np.log(np.maximum(b, first)) for b in (betas, old))
  columns = np.log(angles).reshape(len(old), -1)
  found = [np.interp(at, known[1:], column[1:]) for column in columns.T]
  found = np.exp(np.stack(found, -1)).reshape(len(betas), *angles.shape[1:])
  return Schedule(np.asarray(betas, np.float32), found.astype(np.float32))


def adapted(found: Pilot, num_legs: int, *, power: float = 0.5) -> Schedule:
  """More temperatures where log p(x | eps) varies more, and the step sizes there.

  For chains in equilibrium the leg from beta to beta + d costs d^2 Var / 2
  nats in expectation; costs are equal for a density of (Var)^(1/2), the metric
  of thermodynamic length.

  Args:
    found: a pilot with at least two chains per image.
    num_legs: J.
    power: of the variance; 1/2 equalises the costs.

  Returns:
    The schedule with J legs.
  """
  density = found.variance.mean(1) ** power
  betas = temperatures.respaced(found.schedule.betas, density, num_legs)
  return resampled(found.schedule, betas)
