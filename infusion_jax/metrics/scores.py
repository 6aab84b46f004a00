"""Scores of generated images: the formulas, over any classifier or features.

All are plain numpy in double precision. Which network the predictions and
features come from decides what a number means, so it belongs beside it: only
those of Inception-v3 give the Inception score, FID and KID of the literature.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from infusion_jax.errors import UserError


class SplitScore(NamedTuple):
  """A score computed on each of several parts of the samples.

  Attributes:
    mean: over the splits.
    deviation: standard deviation over the splits (divided by their number), which
      is what Salimans et al. (2016) report.
    standard_error: of the mean: the sample deviation (divided by one less) over
      the root of the number of splits; NaN for one split.
    splits: how many.
  """

  mean: float
  deviation: float
  standard_error: float
  splits: int


def inception_score(probabilities: np.ndarray, splits: int = 10) -> SplitScore:
  """exp E_x KL(p(y | x) || p(y)), as Salimans et al. (2016) define it.

  The samples are cut into consecutive parts; p(y) is the mean over a part. Only
  with the predictions of Inception-v3 is this the Inception score.

  Args:
    probabilities: p(y | x), [N, K], rows summing to 1.
    splits: how many parts; 10 in the paper, of 50,000 samples in all.

  Returns:
    The score: 1 at worst, K at best.

  Raises:
    UserError: fewer samples than splits, or rows that are no distributions.
  """
  probabilities = _checked_probabilities(probabilities)
  count = len(probabilities)
  if not 1 <= splits <= count:
    raise UserError(f"splits is {splits}; {count} samples allow 1 to {count}")
  edges = [i * count // splits for i in range(splits + 1)]
  values = [
    _exponential_divergence(probabilities[first:last])
    for first, last in itertools.pairwise(edges)
  ]
  return _summary(values)


def frechet_distance(generated: np.ndarray, reference: np.ndarray) -> float:
  """Distance of two Gaussians fitted to features (FID; Heusel et al., 2017).

      |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

  The trace of the root is the sum of the singular values of C1^(1/2) C2^(1/2),
  which needs no root of a matrix that is not symmetric and is real by nature. It
  is biased upwards when samples are few: compare at equal numbers only.

  Args:
    generated: features [N, F].
    reference: features [M, F].

  Returns:
    The squared distance, at least 0.

  Raises:
    UserError: fewer than two rows, or other numbers of features.
  """
  generated, reference = _checked_pair(generated, reference)
  mean_gap = generated.mean(0) - reference.mean(0)
  first, second = (_covariance(rows) for rows in (generated, reference))
  roots = np.linalg.svd(_root(first) @ _root(second), compute_uv=False)
  trace = np.trace(first) + np.trace(second) - 2 * roots.sum()
  return max(float(mean_gap @ mean_gap + trace), 0.0)


def kernel_distance(
  generated: np.ndarray,
  reference: np.ndarray,
  *,
  subsets: int = 100,
  subset_size: int = 1000,
  seed: int = 0,
) -> SplitScore:
  """Unbiased squared MMD of features (KID; Binkowski et al., 2018).

  The kernel is (x . y / F + 1)^3; the estimate is averaged over random subsets
  of both sets. It has no bias, and may be slightly negative.

  Args:
    generated: features [N, F].
    reference: features [M, F].
    subsets: how many subsets.
    subset_size: rows in each, at most; never more than there are.
    seed: chooses the subsets.

  Returns:
    Mean, deviation and standard error over the subsets. They share rows, so the
    standard error is of the subsampling only.

  Raises:
    UserError: fewer than two rows, other numbers of features, or no subsets.
  """
  generated, reference = _checked_pair(generated, reference)
  if subsets < 1 or subset_size < 2:
    raise UserError(
      f"subsets is {subsets} and subset_size {subset_size}; at least 1 and 2 are needed"
    )
  size = min(subset_size, len(generated), len(reference))
  rng = np.random.default_rng(seed)
  return _summary(
    [
      squared_mmd(
        generated[rng.choice(len(generated), size, replace=False)],
        reference[rng.choice(len(reference), size, replace=False)],
      )
      for _ in range(subsets)
    ]
  )


def squared_mmd(first: np.ndarray, second: np.ndarray) -> float:
  """The unbiased estimate of the squared MMD with the cubic kernel.

  Args:
    first: features [N, F], N at least 2.
    second: features [M, F], M at least 2.

  Returns:
    The estimate.
  """
  n, m = len(first), len(second)
  within_first, within_second = _cubic(first, first), _cubic(second, second)
  between = _cubic(first, second)
  return float(
    (within_first.sum() - np.trace(within_first)) / (n * (n - 1))
    + (within_second.sum() - np.trace(within_second)) / (m * (m - 1))
    - 2 * between.mean()
  )


def _cubic(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  return (first @ second.T / first.shape[1] + 1) ** 3


def _exponential_divergence(probabilities: np.ndarray) -> float:
  """exp of the mean KL divergence of the rows from their mean; 0 log 0 is 0."""
  marginal = np.broadcast_to(probabilities.mean(0), probabilities.shape)
  ratio = np.divide(
    probabilities, marginal, out=np.ones_like(probabilities), where=probabilities > 0
  )
  return math.exp((probabilities * np.log(ratio)).sum(1).mean())


def _summary(values: list[float]) -> SplitScore:
  count = len(values)
  error = np.std(values, ddof=1) / math.sqrt(count) if count > 1 else math.nan
  return SplitScore(
    float(np.mean(values)), float(np.std(values)), float(error), len(values)
  )


def _covariance(rows: np.ndarray) -> np.ndarray:
  return np.atleast_2d(np.cov(rows, rowvar=False))


def _root(matrix: np.ndarray) -> np.ndarray:
  """The symmetric root of a positive semidefinite matrix."""
  values, vectors = np.linalg.eigh(matrix)
  return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _checked_probabilities(probabilities: np.ndarray) -> np.ndarray:
  values = np.asarray(probabilities, np.float64)
  if values.ndim != 2 or values.size == 0:
    raise UserError(f"probabilities have shape {values.shape}; allowed is [N, K]")
  # Single precision sums to 1 to about five digits.
  if values.min() < 0 or not np.allclose(values.sum(1), 1.0, atol=1e-4):
    raise UserError("probabilities are no distributions; every row must sum to 1")
  return values


def _checked_pair(
  generated: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  pair = np.asarray(generated, np.float64), np.asarray(reference, np.float64)
  for name, rows in zip(("generated", "reference"), pair, strict=True):
    if rows.ndim != 2 or len(rows) < 2 or rows.shape[1] < 1:
      raise UserError(
        f"{name} features have shape {rows.shape}; allowed is [N, F] with N at least 2"
      )
    if not np.isfinite(rows).all():
      raise UserError(f"{name} features hold values that are not finite")
  if pair[0].shape[1] != pair[1].shape[1]:
    raise UserError(
      f"generated features have {pair[0].shape[1]} numbers an image, reference"
      f" features {pair[1].shape[1]}; both must come from one network"
    )
  return pair
