"""The chain: one `lax.scan` over time, and what is put into a step.

A chain carries a *distribution*. It starts from the prior p^(0); each of its T
steps draws a state from the distribution at hand and passes the state through
the transition operator, which answers with the next distribution:

    z^(t-1) ~ p^(t-1)(. | z^(t-2))      the draw: from the model, from the
                                        infusion mixture, or clamped
    p^(t)(. | z^(t-1))                  the transition operator

It therefore ends with the prediction p^(T)(. | z^(T-1)), which the infusion
chain scores against the target and the model chain reads out (its mean is the
picture, a draw from it the sample). Rates alpha^(0) ... alpha^(T-1), draws and
transitions line up: one of each per scan step, and no step is special.

This module knows no network. An operator is any function `(shared, step, z) ->
(distribution, report)`, where `shared` are the weights of all steps, `step` is one row
of whatever differs from step to step (`Step`) and `report` is its own business. A
transition is an operator with its weights, `Partial(operator, shared)`. What a draw
needs beside the distribution (a key; a key and a rate; the noise itself) is scanned
over with the steps. `MarkovChain` is all of a trained chain in one tree.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Distribution, Draw, Gaussian
from infusion_jax.states.infusion import MIXTURE, Infusion, Proposal

Array = jax.Array
PyTree = Any
Answer = tuple[Distribution, PyTree]

_PRIOR_CHUNK = 1024


class Parameters(NamedTuple):
  """What is learned: weights of all steps, and what each step has of its own.

  Attributes:
    shared: the weights every transition uses.
    per_step: batch-norm scale and bias; every leaf [T, ...].
  """

  shared: PyTree
  per_step: PyTree


class Step(NamedTuple):
  """What a step has of its own; leaves [T, ...] for all steps of a chain.

  Attributes:
    per_step: batch-norm scale and bias.
    index: 0 ... T-1.
    statistics: batch-norm mean and variance; None where the mini-batch's are taken.
  """

  per_step: PyTree
  index: Array
  statistics: PyTree = None


class Operator(Protocol):
  """The transition operator p^(t)(. | z) as a function of its weights."""

  def __call__(self, shared: PyTree, step: Any, z: Array) -> Answer:
    """Maps states [B, H, W, C], as `Distribution.seen`, to the next distribution."""


class Transition(Protocol):
  """An operator with its weights: one step of the chain."""

  def __call__(self, step: Any, z: Array) -> Answer:
    """Maps states [B, H, W, C] to the next distribution and a report."""


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("transition", "steps", "infusion"),
  meta_fields=("unroll", "levels", "outliers"),
)
@dataclasses.dataclass(frozen=True)
class MarkovChain:
  """A chain of T steps, ready to be run: one tree that passes through `jit`.

  Attributes:
    transition: the operator with its weights. What a plain function closes over
      becomes constants of a compiled program; a `Partial` hands it over as arguments.
    steps: what differs from step to step, every leaf [T, ...].
    infusion: prior and proposal q; the rates are those of training, or others.
    unroll: steps per iteration of the compiled loop (True: all of them).
    levels: grey levels whose probabilities the last transition gives (see
      `gaussian.log_bin_density`); 0: it is a density.
    outliers: share of x's pixels that are uniform noise (`gaussian.with_outliers`).
  """

  transition: Transition
  steps: PyTree
  infusion: Infusion
  unroll: int | bool = 1
  levels: int = 0
  outliers: float = 0.0

  def __post_init__(self) -> None:
    # Wrapping a Partial again would hide its weights from JAX, as constants.
    if callable(self.transition) and not isinstance(self.transition, Partial):
      object.__setattr__(self, "transition", Partial(self.transition))

  @property
  def num_steps(self) -> int:
    """T."""
    return length(self.steps)

  @property
  def prior(self) -> Distribution:
    """p^(0) over [H, W, C]."""
    return self.infusion.prior

  def log_output(self, x: Array, prediction: Gaussian) -> Array:
    """log p^(T)(x | z^(T-1)), [B] nats, of images x [B, H, W, C]."""
    log_p = prediction.log_output(x, self.levels, self.outliers)
    return gaussian.per_image(log_p)

  def with_rates(self, rates: Array) -> "MarkovChain":
    """The same chain with other infusion rates, [T] or [T, H, W, 1]."""
    infusion = self.infusion._replace(rates=jnp.asarray(rates))
    return dataclasses.replace(self, infusion=infusion)


class Drawer(Protocol):
  """How a state is drawn from the distribution at hand."""

  def __call__(self, inputs: Any, p: Distribution) -> Draw:
    """Draws [B, H, W, C] states from this step's row of `run`'s inputs."""


class Visit(NamedTuple):
  """All there is to see at step t of a chain, t = 1 ... T.

  Attributes:
    before: p^(t-1), the distribution the state was drawn from.
    inputs: what it was drawn with; in an infusion chain the key and alpha^(t-1).
    state: z^(t-1), [B, H, W, C].
    mask: [B, H, W, 1] bool, where the target came in; None for a model chain.
    after: p^(t)(. | z^(t-1)), the transition's answer.
    step: the row of `steps` the transition was given.
    report: the transition's report.
  """

  before: Distribution
  inputs: PyTree
  state: Array
  mask: Array | None
  after: Distribution
  step: PyTree
  report: PyTree


class Result(NamedTuple):
  """What a chain returns.

  Attributes:
    prediction: p^(T)(. | z^(T-1)); of a model chain `Distribution.settled`.
    total: what `fold` accumulated over the steps (None if not asked for).
    trace: what `record` took from every step, stacked on a leading [T] axis
      (None if not asked for; nothing is stored then).
  """

  prediction: Distribution
  total: PyTree
  trace: PyTree


def run(
  inputs: PyTree,
  start: Distribution,
  transition: Transition,
  steps: PyTree,
  draw: Drawer,
  *,
  fold: Callable[[PyTree, Visit], PyTree] | None = None,
  initial: PyTree = None,
  record: Callable[[Visit], PyTree] | None = None,
  unroll: int | bool = 1,
) -> Result:
  """Runs a chain of T steps.

  Args:
    inputs: what `draw` needs at each step, every leaf [T, ...]: for most drawers
      `random.steps(key, T)`, with one key or [B] keys, one per image.
    start: the prior p^(0), [B, H, W, C].
    transition: the operator; see the module's docstring.
    steps: what differs from step to step, every leaf [T, ...].
    draw: `from_model`, `from_noise`, `infusing(...)`, `clamping(...)` or your own.
    fold: accumulates over steps, `total = fold(total, visit)`, in constant memory.
    initial: the first `total`.
    record: what to keep of every step, e.g. `lambda visit: visit.state`.
    unroll: steps per iteration of the compiled loop (True: all of them).

  Returns:
    The prediction, the total and the trace.
  """

  def body(carry: tuple, row: tuple[PyTree, PyTree]) -> tuple[tuple, PyTree]:
    before, total = carry
    step_inputs, step = row
    state, mask = draw(step_inputs, before)
    after, report = transition(step, before.seen(state))
    visit = Visit(before, step_inputs, state, mask, after, step, report)
    total = fold(total, visit) if fold else total
    return (after, total), (record(visit) if record else None)

  (prediction, total), trace = jax.lax.scan(
    body, (start, initial), (inputs, steps), unroll=unroll
  )
  return Result(prediction, total, trace)


def infuse(key: Array, markov: MarkovChain, x: Array, **options: Any) -> Result:
  """Runs the infusion chain z~^(0) ... z~^(T-1) towards x (section 3.3.3.1).

  Args:
    key: one key, or [B] keys.
    markov: the chain.
    x: targets, [B, H, W, C].
    **options: `fold`, `initial`, `record` of `run`.

  Returns:
    The result of `run`; its prediction is p^(T)(. | z~^(T-1)).
  """
  inputs = random.steps(key, markov.num_steps), markov.infusion.rates
  draw = infusing(x, markov.infusion.target_variance, markov.infusion.proposal)
  return _run(inputs, markov, x.shape[0], draw, **options)


def generate(key: Array, markov: MarkovChain, count: int, **options: Any) -> Result:
  """Runs the model chain from the prior (section 3.3.2).

  Args:
    key: one key, or [B] keys.
    markov: the chain.
    count: B.
    **options: `fold`, `initial`, `record` of `run`.

  Returns:
    The result of `run`; its prediction is p^(T)(. | z^(T-1)).
  """
  keys = random.steps(key, markov.num_steps)
  return _settled(key, _run(keys, markov, count, from_model, **options))


def clamp(
  key: Array, markov: MarkovChain, image: Array, known: Array, **options: Any
) -> Result:
  """Runs the model chain with known pixels clamped (section 3.5.3).

  Args:
    key: one key, or [B] keys.
    markov: the chain.
    image: [B, H, W, C].
    known: [B, H, W, 1] or broadcastable, True where a pixel is known.
    **options: `fold`, `initial`, `record` of `run`, whose prediction is not clamped.
  """
  keys, draw = random.steps(key, markov.num_steps), clamping(image, known)
  return _settled(key, _run(keys, markov, image.shape[0], draw, **options))


def decode(noise: Array, markov: MarkovChain) -> Gaussian:
  """The last transition p^(T)(. | z^(T-1)) as a function of the noise.

  Args:
    noise: eps, [B, T, H, W, C]; standard normal where the chain is the model's.
    markov: the chain.

  Returns:
    The Gaussian over [B, H, W, C].
  """
  inputs = jnp.moveaxis(noise, 1, 0)
  return _run(inputs, markov, noise.shape[0], from_noise).prediction


def _settled(key: Array, result: Result) -> Result:
  last = result.prediction.settled(random.named(key, "latent"))
  return result._replace(prediction=last)


def _run(
  inputs: PyTree, markov: MarkovChain, count: int, draw: Drawer, **options: Any
) -> Result:
  start = repeat_for_batch(markov.prior, count)
  steps, unroll = markov.steps, markov.unroll
  return run(inputs, start, markov.transition, steps, draw, unroll=unroll, **options)


def from_model(key: Array, p: Distribution) -> Draw:
  """The model chain's draw: z ~ p."""
  return Draw(p.draw(key), None)


def from_noise(noise: Array, p: Gaussian) -> Draw:
  """The same with its standard normal noise [B, H, W, C] given."""
  return Draw(p.mean + jnp.sqrt(p.variance) * noise, None)


def infusing(
  target: Array, target_variance: float, proposal: Proposal = MIXTURE
) -> Drawer:
  """The infusion chain's draw: z ~ (1 - rate) p + rate N(target, variance).

  Its inputs are key and rate; the rate may be traced.

  Args:
    target: x, [B, H, W, C].
    target_variance: variance of the narrow Gaussian around x (1e-4).
    proposal: another q in the place of this mixture.
  """

  def draw(inputs: tuple[Array, Array], p: Distribution) -> Draw:
    key, rate = inputs
    return proposal.draw(key, p, target, rate, target_variance)

  return draw


def clamping(image: Array, known: Array) -> Drawer:
  """The clamped chain's draw (inpainting): known pixels are the image's own.

  Args:
    image: [B, H, W, C].
    known: [B, H, W, 1] or broadcastable, True where a pixel is known.
  """

  def draw(key: Array, p: Distribution) -> Draw:
    return Draw(jnp.where(known, image, p.draw(key)), known)

  return draw


def fit_prior(images: np.ndarray, scale: float, floor: float) -> Gaussian:
  """The maximum-likelihood diagonal Gaussian of a training set (eq. 3.3.1).

  The model sees x = scale (v + u), u ~ U(0, 1), for an integer pixel v; the
  noise adds its own mean and variance, known in closed form. Sums are exact
  integers, taken in chunks, so a large set needs no floating-point copy.

  Args:
    images: [N, H, W, C] integers.
    scale: width of one grey level, 1 / levels.
    floor: added to every variance; a pixel that never changes has none.

  Returns:
    Mean and variance, each [H, W, C] float32.
  """
  total = np.zeros(images.shape[1:], np.int64)
  squares = np.zeros(images.shape[1:], np.int64)
  for first in range(0, len(images), _PRIOR_CHUNK):
    chunk = images[first : first + _PRIOR_CHUNK].astype(np.int64)
    total += chunk.sum(0)
    squares += np.square(chunk).sum(0)
  mean = total / len(images)
  variance = np.maximum(squares / len(images) - np.square(mean), 0.0)
  return Gaussian(
    jnp.asarray(scale * (mean + 0.5), jnp.float32),
    jnp.asarray(scale**2 * (variance + 1 / 12) + floor, jnp.float32),
  )


def repeat_for_batch(p: Distribution, batch_size: int) -> Distribution:
  """The prior [H, W, C] as the start of a batch of chains, [B, H, W, C]."""
  return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch_size, *leaf.shape)), p)


def length(steps: PyTree) -> int:
  """T, the length of the leading axis shared by all leaves of `steps`."""
  return jax.tree.leaves(steps)[0].shape[0]


def extended(steps: PyTree, num_steps: int) -> PyTree:
  """`steps` for a chain of another length: step T is repeated, or the end cut.

  Args:
    steps: every leaf [T, ...]; the result's are [num_steps, ...].
    num_steps: the chain's length (30 for a model trained with T = 15).
  """
  index = jnp.minimum(jnp.arange(num_steps), length(steps) - 1)
  return jax.tree.map(lambda leaf: leaf[index], steps)
