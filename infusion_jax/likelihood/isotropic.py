"""The isotropic output: one fixed variance for all pixels of the last step.

The published isotropic rows replace the variance of p^(T)(x | z^(T-1)) by one
number v. As v enters the reconstruction term alone,

    l(v) = rest - D/2 log(2 pi v) - S / (2 v),    S = |x - mu^(T)|^2,

one run of the infusion chain scores any number of values: the bound's best
value is the mean of S / D in closed form, the importance-sampling estimate's
is searched for.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from infusion_jax import chain, gaussian, objectives
from infusion_jax.chain import MarkovChain, Transition
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance

Array = jax.Array
PyTree = Any


class OutputSteps(NamedTuple):
  """Steps with the variance that replaces the transition's own.

  Attributes:
    steps: the transition's own rows, leaves [T, ...].
    variance: [T]; 0 keeps the transition's own.
  """

  steps: PyTree
  variance: Array


class Search(NamedTuple):
  """A search for the output variance, V values.

  Attributes:
    values: [V], increasing.
    bound: [V], mean lower bound at each, nats per image.
    importance: [V], mean importance-sampling estimate at each.
    closed_form: the mean squared residual, the bound's maximum-likelihood value.
    closed_form_importance: the estimate there.
    best: the value of the largest estimate, grid and closed form together.
    best_importance: the estimate at `best`.
  """

  values: np.ndarray
  bound: np.ndarray
  importance: np.ndarray
  closed_form: float
  closed_form_importance: float
  best: float
  best_importance: float


def with_output_variance(markov: MarkovChain, variance: float | Array) -> MarkovChain:
  """The same model with one variance for all pixels of its output.

  Every estimator of this package, annealing included, takes the result.

  Args:
    markov: the chain.
    variance: v > 0, scalar; may be traced.

  Returns:
    The chain of the isotropic model.

  Raises:
    UserError: a variance given as a number is not positive and finite.
  """
  if isinstance(variance, (int, float, np.number)):
    _check_variances(np.asarray(variance))
  last = jnp.arange(markov.num_steps) == markov.num_steps - 1
  return dataclasses.replace(
    markov,
    transition=Partial(_isotropic, markov.transition),
    steps=OutputSteps(markov.steps, jnp.where(last, jnp.float32(variance), 0.0)),
  )


def _isotropic(
  transition: Transition, step: OutputSteps, z: Array, **label: Array
) -> tuple[Gaussian, PyTree]:
  p, report = transition(step.steps, z, **label)
  return p._replace(
    variance=jnp.where(step.variance > 0, step.variance, p.variance)
  ), report


class Residuals(NamedTuple):
  """What l(v) is made of, [N, C].

  Attributes:
    rest: l without its reconstruction term, nats.
    squares: S, the squared residual `|x - mu^(T)|^2` of an image.
  """

  rest: Array
  squares: Array


def residuals(
  keys: Array,
  markov: MarkovChain,
  x: Array,
  chains: Array,
) -> Residuals:
  """Runs infusion chains and keeps what the output variance does not touch.

  Args:
    keys: [N], one per image.
    markov: the chain.
    x: [N, H, W, C].
    chains: [C] numbers of the chains; streams are those of `log_weights`.

  Returns:
    Residuals, [N, C].
  """
  shape = x.shape[0], chains.shape[0]
  rows = jnp.repeat(x, shape[1], axis=0)
  prediction, _, ratios = chain.infuse(
    importance.chain_keys(keys, chains).reshape(-1),
    markov,
    rows,
    record=lambda visit: objectives.log_ratio(visit, rows, markov.infusion),
  )
  squares = gaussian.per_image(jnp.square(rows - prediction.mean))
  return Residuals(ratios.sum(0).reshape(shape), squares.reshape(shape))


def log_weights(found: Residuals, variances: Array, size: int) -> Array:
  """l(v) for every value: [V] and [N, C] -> [V, N, C] nats; D is `size`."""
  v = variances[:, None, None]
  return found.rest - 0.5 * size * jnp.log(2.0 * math.pi * v) - 0.5 * found.squares / v


class _Scores(NamedTuple):
  """Of one batch: bound and estimate [V, N], mean squared residual [N]."""

  bound: Array
  importance: Array
  residual: Array


def score(
  keys: Array,
  markov: MarkovChain,
  x: Array,
  variances: Array,
  *,
  num_chains: int,
  chunk_size: int = 64,
) -> _Scores:
  """Scores all output variances on a batch of images in one run of its chains.

  Args:
    keys: [N], one per image.
    markov: the chain.
    x: [N, H, W, C].
    variances: [V].
    num_chains: k.
    chunk_size: chains per image held at a time.

  Returns:
    bound [V, N], importance [V, N], residual [N], the mean of S / D.
  """
  size, shape = x[0].size, (variances.shape[0], x.shape[0])

  def include(state: PyTree, chains: Array, valid: Array) -> PyTree:
    bound, sums, residual = state

    def mean(values: Array) -> Array:
      return jnp.where(valid, values, 0.0).sum(-1) / num_chains

    found = residuals(keys, markov, x, chains)
    weights = log_weights(found, variances, size)
    return (
      bound + mean(weights),
      sums.include(jnp.where(valid, weights, -jnp.inf)),
      residual + mean(found.squares) / size,
    )

  initial = jnp.zeros(shape), importance.LogMean.empty(shape), jnp.zeros(shape[1])
  bound, sums, residual = importance.over_chunks(
    include, initial, num_chains, chunk_size
  )
  return _Scores(bound, sums.log_mean(num_chains), residual)


def search_output_variance(
  key: Array,
  markov: MarkovChain,
  images: np.ndarray,
  *,
  levels: int | None = None,
  variances: np.ndarray | None = None,
  num_chains: int = 64,
  batch_size: int = 16,
  chunk_size: int = 64,
) -> Search:
  """Chooses the output variance on validation images.

  A first pass scores `variances`; a second, on the same random numbers, scores
  a finer grid around the best of them and the closed form.

  Args:
    key: the search's key.
    markov: the chain.
    images: validation images, [N, H, W, C].
    levels: grey levels of integer images.
    variances: [V] values of the first pass; 1e-4 to 1, five to a decade, if None.
    num_chains: k.
    batch_size: images per compiled call.
    chunk_size: chains per image held at a time.

  Returns:
    The search, both passes in one table.

  Raises:
    UserError: a value is not positive.
  """
  coarse = np.geomspace(1e-4, 1.0, 21) if variances is None else np.sort(variances)
  _check_variances(coarse)
  importance.check_counts(num_chains=num_chains, chunk_size=chunk_size)
  options = {"num_chains": num_chains, "chunk_size": chunk_size}

  def run(values: np.ndarray) -> _Scores:
    parts = []
    for _, _, rows, keys, x in importance.batches(key, images, levels, 1, batch_size):
      found = _score(keys, markov, x(), values, **options)
      parts.append(importance.first_rows(found, rows))
    return _Scores(*(np.concatenate(v, -1).mean(-1) for v in zip(*parts, strict=True)))

  first = run(coarse.astype(np.float32))
  around = _around(coarse, int(first.importance.argmax()))
  fine = np.append(around, float(first.residual))
  second = run(fine.astype(np.float32))
  return _search(np.concatenate([coarse, fine]), first, second)


def _search(values: np.ndarray, first: _Scores, second: _Scores) -> Search:
  """Both passes in one table; the closed form is the last value of the second."""
  estimates = np.concatenate([first.importance, second.importance])
  best = int(estimates.argmax())
  order = np.argsort(values, kind="stable")
  return Search(
    values[order],
    np.concatenate([first.bound, second.bound])[order],
    estimates[order],
    float(first.residual),
    float(second.importance[-1]),
    float(values[best]),
    float(estimates[best]),
  )


def _around(values: np.ndarray, best: int) -> np.ndarray:
  """Nine values between the neighbours of the best one, geometrically."""
  low, high = values[max(best - 1, 0)], values[min(best + 1, len(values) - 1)]
  return np.geomspace(low, high, 11)[1:-1]


def _check_variances(values: np.ndarray) -> None:
  if values.size == 0 or not np.all(np.isfinite(values) & (values > 0)):
    raise UserError(
      f"output variance is {values}; every value must be positive and finite"
    )


_score = jax.jit(score, static_argnames=("num_chains", "chunk_size"))
