"""Annealed importance sampling in the noise of the chain.

A chain is a deterministic decoder of standard normal noise,

    z^(0) = m + s eps^(0),    z^(t) = mu_t(z^(t-1)) + sigma_t(z^(t-1)) eps^(t),

for t < T, and its last transition is a likelihood p(x | eps). Annealing moves
noise from N(0, I) to the posterior through the targets N(eps) p(x | eps)^beta,
beta = 0 ... 1, with Hamiltonian Monte Carlo at each, and accumulates

    log w = sum_j (beta_(j+1) - beta_j) log p(x | eps_j).

The mean of w over chains estimates p(x) without bias (Neal, 2001), so its log
is in expectation a lower bound. Step sizes are fixed beforehand (`tuning`):
adapting them on the way would bias the estimate.

Other decoders take the place of the chain as they are (`decoder.Decoder`); their noise
has a shape of its own instead of [T, H, W, C].

A chain of an image has a stream of its own, and draws at temperature j from
the j-th key of it: neither batches nor chunks of temperatures change a result.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import random
from infusion_jax.chain import MarkovChain
from infusion_jax.likelihood.annealing import hmc
from infusion_jax.likelihood.annealing.decoder import Decoder, decoder_of
from infusion_jax.likelihood.importance import LogMean, chain_keys, check_counts

Array = jax.Array
PyTree = Any

# A larger rotation would turn the momentum back.
LARGEST_ANGLE = 0.5 * math.pi


class Moves(NamedTuple):
  """What happens at one temperature; hashable, so it can be static.

  Attributes:
    num_leapfrog: leapfrog steps, one gradient of the chain each.
    persistence: share of the momentum kept from one temperature to the next.
  """

  num_leapfrog: int = 1
  persistence: float = 0.9


MOVES = Moves()


class Schedule(NamedTuple):
  """Temperatures and step sizes of an annealing, J legs between J+1 stops.

  Attributes:
    betas: [J+1] inverse temperatures, from 0 to 1 (or back).
    angles: [J+1] step sizes at them in radians, or [J+1, N] for N images.
    scale: factor of the step size for each coordinate of the noise, [T, H, W, C]
      or 1: the square root of a diagonal inverse mass matrix.
  """

  betas: Array
  angles: Array
  scale: Array | float = 1.0

  def legs(self) -> "Leg":
    """The J legs, on a leading axis."""
    betas, angles = jnp.asarray(self.betas), jnp.asarray(self.angles)
    return Leg(jnp.arange(len(betas) - 1), betas[:-1], betas[1:], angles[1:])

  def backwards(self) -> "Schedule":
    """The same stops from the last to the first, for reverse annealing."""
    return self._replace(betas=self.betas[::-1], angles=self.angles[::-1])


class Leg(NamedTuple):
  """From one temperature to the next; leaves [n] for n legs.

  Attributes:
    number: of the leg, which names its random stream.
    before: beta at which the weight is taken up.
    after: beta at which the chains then move.
    angle: step size there; [n] or [n, N].
  """

  number: Array
  before: Array
  after: Array
  angle: Array


class State(NamedTuple):
  """All an annealing needs to go on: N images with C chains each, B = N C.

  Attributes:
    point: position is the noise eps, [B, T, H, W, C].
    log_weight: [B] nats so far.
  """

  point: hmc.Point
  log_weight: Array


class Trace(NamedTuple):
  """What each leg was like, [n].

  Attributes:
    acceptance: mean acceptance probability of its moves.
    level: mean of log p(x | eps) where the weight was taken up, nats.
  """

  acceptance: Array
  level: Array


def evaluator(
  model: MarkovChain | Decoder,
  x: Array,
) -> hmc.Evaluate:
  """log p(x | eps) and its gradient: [B, T, H, W, C] -> [B], [B, T, H, W, C]."""
  return hmc.with_gradient(functools.partial(decoder_of(model).log_likelihood, x))


def begin(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  *,
  num_chains: int,
  noise: Array | None = None,
) -> State:
  """The state before the first leg.

  Args:
    keys: [N], one per image.
    model: the chain, or another decoder.
    x: [N, H, W, C].
    num_chains: C, annealings of each image.
    noise: [N, T, H, W, C] where all chains of an image start (reverse
      annealing); drawn from N(0, I) for each chain if None.

  Returns:
    Weights of zero, and momenta from N(0, I).
  """
  flat = chain_keys(keys, jnp.arange(num_chains)).reshape(-1)
  shape = (len(x) * num_chains, *decoder_of(model).noise_shape)
  if noise is None:
    noise = random.normal(random.named(flat, "noise"), shape)
  else:
    noise = jnp.repeat(noise, num_chains, axis=0)
  evaluate = evaluator(model, jnp.repeat(x, num_chains, 0))
  momentum = random.normal(random.named(flat, "momentum"), shape)
  point = hmc.start(evaluate, noise)._replace(momentum=momentum)
  return State(point, jnp.zeros(shape[0]))


def anneal(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  state: State,
  legs: Leg,
  scale: Array | float = 1.0,
  *,
  moves: Moves = MOVES,
) -> tuple[State, Trace]:
  """Follows some legs of a schedule; the next call takes up where this ended.

  Args:
    keys: [N], the same in every call.
    model: the chain, or another decoder.
    x: [N, H, W, C].
    state: from `begin`, or from the call before.
    legs: consecutive rows of `Schedule.legs()`.
    scale: `Schedule.scale`.
    moves: what happens at one temperature.

  Returns:
    The state after the last leg, and the trace.
  """
  num_chains = state.log_weight.shape[0] // x.shape[0]
  row_keys, evaluate = rows(keys, model, x, num_chains=num_chains)

  def body(state: Progress, leg: Leg) -> tuple[Progress, Trace]:
    level = state.point.log_likelihood
    state, acceptance = follow(row_keys, evaluate, state, leg, scale, moves)
    return state, Trace(acceptance.mean(), level.mean())

  return jax.lax.scan(body, state, legs)


def rows(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  *,
  num_chains: int,
) -> tuple[Array, hmc.Evaluate]:
  """What `follow` needs for C chains of each image: keys [N C], and log p(x | eps)."""
  flat = chain_keys(keys, jnp.arange(num_chains)).reshape(-1)
  repeated = jnp.repeat(x, num_chains, axis=0)
  evaluate = evaluator(model, repeated)
  return random.named(flat, "move"), evaluate


def follow(
  keys: Array,
  evaluate: hmc.Evaluate,
  state: State,
  leg: Leg,
  scale: Array | float,
  moves: Moves,
) -> tuple[State, Array]:
  """One leg: takes up the weight, then moves; also the acceptance [B]."""
  gain = (leg.after - leg.before) * state.point.log_likelihood
  angle = _per_row(leg.angle, state.point.position) * scale
  point, acceptance = hmc.move(
    random.fold_in(keys, leg.number),
    evaluate,
    state.point,
    leg.after,
    jnp.minimum(angle, LARGEST_ANGLE),
    num_leapfrog=moves.num_leapfrog,
    persistence=moves.persistence,
  )
  return State(point, state.log_weight + gain), acceptance


def log_mean_weight(state: State, num_images: int) -> Array:
  """log of the mean weight over an image's chains, [N] nats."""
  weights = state.log_weight.reshape(num_images, -1)
  return LogMean.empty((num_images,)).include(weights).log_mean(weights.shape[1])


class Progress(NamedTuple):
  """How far an annealing has come; arrays only, to be saved and gone on from.

  Attributes:
    done: legs followed.
    state: after the last of them.
    trace: of all of them, [done].
  """

  done: int
  state: State
  trace: Trace


def run(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  schedule: Schedule,
  *,
  num_chains: int = 4,
  moves: Moves = MOVES,
  noise: Array | None = None,
  resume: Progress | None = None,
  chunk_size: int = 50,
) -> Iterator[Progress]:
  """Anneals a batch of images in compiled calls of `chunk_size` legs.

  Args:
    keys: [N], one per image.
    model: the chain, or another decoder.
    x: [N, H, W, C].
    schedule: temperatures and step sizes.
    num_chains: C, annealings of each image.
    moves: what happens at one temperature.
    noise: [N, T, H, W, C], where all chains of an image start (`begin`).
    resume: where a run with the same other arguments was cut off.
    chunk_size: legs per call.

  Yields:
    The progress after every call; the last has followed all legs.
  """
  check_counts(num_chains=num_chains, chunk_size=chunk_size)
  if resume is None:
    start = _begin(keys, model, x, num_chains=num_chains, noise=noise)
    resume = Progress(0, start, Trace(np.zeros(0), np.zeros(0)))
  done, state, trace = resume
  legs = schedule.legs()
  if done == len(legs.number):
    yield resume
  for first in range(int(done), len(legs.number), chunk_size):
    part = jax.tree.map(lambda leaf, a=first: leaf[a : a + chunk_size], legs)
    state, seen = _anneal(keys, model, x, state, part, schedule.scale, moves=moves)
    trace = jax.tree.map(lambda a, b: np.append(a, np.asarray(b)), trace, seen)
    yield Progress(first + len(part.number), state, trace)


def estimate(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  schedule: Schedule,
  **options: Any,
) -> np.ndarray:
  """Annealed importance sampling of a batch of images, [N] nats.

  Args:
    keys: [N], one per image.
    model: the chain, or another decoder.
    x: [N, H, W, C].
    schedule: temperatures and step sizes.
    **options: of `run`.
  """
  *_, last = run(keys, model, x, schedule, **options)
  return np.asarray(log_mean_weight(last.state, len(x)))


def _per_row(angle: Array, position: Array) -> Array:
  """A step size, or [N] of them, broadcastable to positions [N C, ...]."""
  if angle.ndim == 0:
    return angle
  rows = jnp.repeat(angle, position.shape[0] // angle.shape[0])
  return rows.reshape(-1, *(1,) * (position.ndim - 1))


_begin = jax.jit(begin, static_argnames="num_chains")
_anneal = jax.jit(anneal, static_argnames="moves")
