"""Which rates the proposal q should have: a search on validation images.

The rates of training shape what is learned; those of the estimator only decide
how close it comes to log p(x), and need not be the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from infusion_jax import schedules
from infusion_jax.chain import MarkovChain
from infusion_jax.errors import UserError
from infusion_jax.likelihood.importance import evaluate

Array = jax.Array
PyTree = Any


class ProposalTable(NamedTuple):
  """What each candidate schedule gave, C of them.

  Attributes:
    rates: [C, T].
    bound: [C], mean lower bound in nats per image.
    importance: [C], mean importance-sampling estimate.
    standard_error: [C], of `importance`, over images.
    ess: [C], median effective sample size.
    best: index of the largest `importance`.
  """

  rates: np.ndarray
  bound: np.ndarray
  importance: np.ndarray
  standard_error: np.ndarray
  ess: np.ndarray
  best: int

  @property
  def best_rates(self) -> np.ndarray:
    """[T], the schedule to use."""
    return self.rates[self.best]


def proposal_grid(
  num_steps: int, alpha0: Sequence[float], omega: Sequence[float]
) -> np.ndarray:
  """All linear schedules of the grid whose rates lie in [0, 1].

  Args:
    num_steps: T.
    alpha0: first rates to try.
    omega: increases per step to try.

  Returns:
    [C, T] rates.

  Raises:
    UserError: no pair gives rates in [0, 1].
  """
  pairs = [
    (first, step)
    for first in alpha0
    for step in omega
    if 0 <= first <= 1 and 0 <= first + step * (num_steps - 1) <= 1
  ]
  if not pairs:
    raise UserError(
      f"alpha0 in {tuple(alpha0)} with omega in {tuple(omega)} leaves no schedule of"
      f" {num_steps} steps; alpha0 and alpha0 + omega (T - 1) must lie in [0, 1]"
    )
  return np.stack([schedules.linear(num_steps, *pair) for pair in pairs])


def tune_proposal(
  key: Array,
  markov: MarkovChain,
  images: np.ndarray,
  candidates: np.ndarray,
  *,
  num_chains: int = 64,
  progress: Callable[[int, int], None] | None = None,
  **options: Any,
) -> ProposalTable:
  """Tries proposal schedules by importance sampling on validation images.

  All candidates see the same images, dequantization and random numbers, and
  run in one compiled program.

  Args:
    key: the search's key.
    markov: the chain; its rates are not used.
    images: validation images, [N, H, W, C].
    candidates: [C, T] rates (`proposal_grid`, and those of training).
    num_chains: k; best near the k of the final estimate.
    progress: called with candidates done and candidates in all.
    **options: of `importance.estimate_batches`.

  Returns:
    The table.

  Raises:
    UserError: a candidate is no schedule.
  """
  rates = np.stack([schedules.validated(c, "a proposal candidate") for c in candidates])
  rows = []
  for row in rates:
    proposal = markov.with_rates(row)
    found = evaluate(key, proposal, images, num_chains=num_chains, **options)
    rows.append(found)
    if progress:
      progress(len(rows), len(rates))
  importance = np.stack([row.importance.mean(0) for row in rows])
  mean = importance.mean(1)
  return ProposalTable(
    rates,
    np.array([row.bound.mean() for row in rows]),
    mean,
    _standard_error(importance),
    np.array([np.median(row.ess) for row in rows]),
    int(mean.argmax()),
  )


def _standard_error(values: np.ndarray) -> np.ndarray:
  """Over the last axis; NaN for a single image."""
  count = values.shape[-1]
  if count < 2:
    return np.full(values.shape[:-1], np.nan)
  return values.std(-1, ddof=1) / np.sqrt(count)
