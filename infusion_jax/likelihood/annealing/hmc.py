"""Hamiltonian Monte Carlo for N(0, I) times a tempered likelihood.

The target is N(q; 0, I) L(q)^beta, up to its constant, with the energy

    H(q, p) = |q|^2 / 2 + |p|^2 / 2 - beta log L(q).

Its first two terms are harmonic oscillators, whose motion is known exactly: a
rotation of (q, p). A leapfrog step here is a kick by the likelihood's gradient,
a rotation, and a kick again. At beta = 0 it is exact for any step size, so the
early temperatures of an annealing mix at once, and only the likelihood's own
stiffness limits the step later. A step size is the angle of the rotation, of
each coordinate if so wished (that is the same as a diagonal mass matrix).

Likelihood and gradient are kept apart from beta in the state, so that a new
temperature costs no new gradient: one evaluation per leapfrog step in all.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random

Array = jax.Array

# q [B, ...] -> log L(q) [B] and its gradient [B, ...].
Evaluate = Callable[[Array], tuple[Array, Array]]


class Point(NamedTuple):
  """Where a batch of Markov chains stands.

  Attributes:
    position: q, [B, ...].
    momentum: p, [B, ...].
    log_likelihood: log L(q), [B] nats.
    gradient: of log L in q, [B, ...].
  """

  position: Array
  momentum: Array
  log_likelihood: Array
  gradient: Array


def with_gradient(log_likelihood: Callable[[Array], Array]) -> Evaluate:
  """log L [B] and its gradient for a batch whose members do not interact."""

  def total(q: Array) -> tuple[Array, Array]:
    values = log_likelihood(q)
    return values.sum(), values

  def evaluate(q: Array) -> tuple[Array, Array]:
    (_, values), gradient = jax.value_and_grad(total, has_aux=True)(q)
    return values, gradient

  return evaluate


def start(evaluate: Evaluate, position: Array) -> Point:
  """A point at `position`, at rest: `move` draws its momentum."""
  return Point(position, jnp.zeros_like(position), *evaluate(position))


def leapfrog(evaluate: Evaluate, point: Point, beta: Array, angle: Array) -> Point:
  """One step: half a kick, a rotation, half a kick.

  It preserves volume and is its own inverse once the momentum is turned round.

  Args:
    evaluate: log L and its gradient.
    point: where to start.
    beta: inverse temperature, scalar or broadcastable to [B, ...].
    angle: step size in radians, broadcastable to [B, ...].

  Returns:
    The next point.
  """
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  momentum = point.momentum + 0.5 * angle * beta * point.gradient
  position = cosine * point.position + sine * momentum
  momentum = cosine * momentum - sine * point.position
  log_likelihood, gradient = evaluate(position)
  momentum = momentum + 0.5 * angle * beta * gradient
  return Point(position, momentum, log_likelihood, gradient)


def energy(point: Point, beta: Array) -> Array:
  """H(q, p), [B] nats."""
  rest = gaussian.per_image(jnp.square(point.position) + jnp.square(point.momentum))
  return 0.5 * rest - beta * point.log_likelihood


def move(
  key: Array,
  evaluate: Evaluate,
  point: Point,
  beta: Array,
  angle: Array,
  *,
  num_leapfrog: int = 1,
  persistence: Array | float = 0.0,
) -> tuple[Point, Array]:
  """Refreshes the momentum, follows it, and accepts or rejects (Metropolis).

  The momentum becomes c p + sqrt(1 - c^2) N(0, I), c = `persistence`; a
  rejection turns it round. With c = 0 that is ordinary HMC, with c near 1 and
  one leapfrog step the generalized HMC of Horowitz (1991), whose chains keep
  their direction over many moves. Both leave N(q) L(q)^beta N(p) invariant.

  Args:
    key: one key, or [B] keys.
    evaluate: log L and its gradient.
    point: where the chains stand.
    beta: inverse temperature, scalar.
    angle: step size in radians, broadcastable to [B, ...].
    num_leapfrog: leapfrog steps, one gradient each.
    persistence: c in [0, 1].

  Returns:
    The next point, and the acceptance probability [B].
  """
  noise = random.normal(random.fold_in(key, 0), point.position.shape)
  chance = random.uniform(random.fold_in(key, 1), point.log_likelihood.shape)
  refreshed = persistence * point.momentum
  refreshed = refreshed + jnp.sqrt(1.0 - jnp.square(persistence)) * noise
  old = point._replace(momentum=refreshed)
  new = jax.lax.fori_loop(
    0, num_leapfrog, lambda _, p: leapfrog(evaluate, p, beta, angle), old
  )
  gain = energy(old, beta) - energy(new, beta)
  # Rejects a trajectory whose numbers are no longer finite.
  probability = jnp.where(jnp.isfinite(gain), jnp.exp(jnp.minimum(gain, 0.0)), 0.0)
  accepted = chance < probability
  turned = old._replace(momentum=-old.momentum)
  chosen = jax.tree.map(
    lambda a, b: jnp.where(_as_rows(accepted, a), a, b), new, turned
  )
  return chosen, probability


def _as_rows(mask: Array, like: Array) -> Array:
  return mask.reshape(mask.shape + (1,) * (like.ndim - 1))
