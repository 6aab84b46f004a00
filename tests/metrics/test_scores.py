"""The formulas against plain loops, on made-up predictions and features."""

import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from infusion_jax.errors import UserError
from infusion_jax.metrics import scores


def predictions(rng, count, classes):
  return rng.dirichlet(np.full(classes, 0.3), count)


def features(rng, count, size, shift=0.0):
  return rng.normal(size=(count, size)) @ rng.normal(size=(size, size)) + shift


@settings(max_examples=50)
@given(st.integers(0, 99), st.integers(1, 30), st.integers(1, 6), st.integers(1, 6))
def test_inception_score_is_the_formula(seed, count, classes, splits):
  splits = min(splits, count)
  p = predictions(np.random.default_rng(seed), count, classes)
  values = []
  for i in range(splits):
    part = p[i * count // splits : (i + 1) * count // splits]
    marginal = [sum(row[k] for row in part) / len(part) for k in range(classes)]
    divergence = [
      sum(row[k] * math.log(row[k] / marginal[k]) for k in range(classes) if row[k] > 0)
      for row in part
    ]
    values.append(math.exp(sum(divergence) / len(part)))
  found = scores.inception_score(p, splits)
  assert found.splits == splits
  assert found.mean == pytest.approx(np.mean(values), rel=1e-9)
  assert found.deviation == pytest.approx(np.std(values), abs=1e-9)
  if splits > 1:
    error = np.std(values, ddof=1) / math.sqrt(splits)
    assert found.standard_error == pytest.approx(error, abs=1e-9)
  else:
    assert math.isnan(found.standard_error)


@pytest.mark.parametrize(("sure", "score"), [(True, 5.0), (False, 1.0)])
def test_inception_score_at_its_ends(sure, score):
  """Sure and even over K classes: K. The same for every image: 1."""
  p = np.tile(np.eye(5), (8, 1)) if sure else np.full((40, 5), 0.2)
  found = scores.inception_score(p, 4)
  assert found.mean == pytest.approx(score)
  assert found.deviation == pytest.approx(0, abs=1e-12)


def test_splits_are_consecutive_parts():
  p = np.repeat(np.eye(2), 10, axis=0)
  assert scores.inception_score(p, 2).mean == pytest.approx(1)
  assert scores.inception_score(p, 1).mean == pytest.approx(2)


@pytest.mark.parametrize(
  ("p", "splits", "message"),
  [
    (np.full((4, 2), 0.5), 5, "splits is 5; 4 samples allow 1 to 4"),
    (np.full((4, 2), 0.5), 0, "splits is 0"),
    (np.full((4, 2), 0.6), 2, "every row must sum to 1"),
    (np.array([[1.5, -0.5]]), 1, "every row must sum to 1"),
    (np.full((4, 2), np.nan), 1, "every row must sum to 1"),
    (np.full(4, 1.0), 1, r"shape \(4,\); allowed is \[N, K\]"),
  ],
)
def test_unsound_predictions(p, splits, message):
  with pytest.raises(UserError, match=message):
    scores.inception_score(p, splits)


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(2, 40), st.integers(1, 8))
def test_frechet_distance_is_the_formula(seed, count, size):
  """Against scipy's root of the product; few rows make singular covariances."""
  rng = np.random.default_rng(seed)
  x, y = features(rng, count, size), features(rng, count + 3, size, 0.5)
  first, second = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (x, y))
  root = scipy.linalg.sqrtm(first @ second + 1e-12 * np.eye(size)).real
  expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
  scale = np.trace(first + second) + 1
  assert scores.frechet_distance(x, y) == pytest.approx(expected, abs=2e-4 * scale)


def test_frechet_distance_of_known_gaussians():
  """Diagonal covariances: the squared differences of means and of deviations."""
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(1000, 3))
  rows = (rows - rows.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
  x = rows * [1, 2, 3] + [0, 1, 2]
  y = rows * [2, 2, 1] + [1, 1, 0]
  assert scores.frechet_distance(x, y) == pytest.approx(1 + 4 + (1 + 0 + 4))
  assert scores.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def kernel(a, b):
  return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(2, 7), st.integers(2, 7), st.integers(1, 4))
def test_squared_mmd_is_the_formula(seed, n, m, size):
  rng = np.random.default_rng(seed)
  x, y = features(rng, n, size), features(rng, m, size, 1.0)
  expected = (
    sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    / (n * (n - 1))
    + sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    / (m * (m - 1))
    - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)
  )
  assert scores.squared_mmd(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_kernel_distance_of_whole_sets_is_the_mmd():
  rng = np.random.default_rng(0)
  x, y = features(rng, 12, 3), features(rng, 12, 3, 1.0)
  found = scores.kernel_distance(x, y, subsets=3, subset_size=1000)
  assert found.mean == pytest.approx(scores.squared_mmd(x, y))
  assert found.deviation == pytest.approx(0, abs=1e-9 * abs(found.mean))
  assert found.splits == 3


def test_kernel_distance_has_no_bias():
  """Of two samples of one distribution it is 0 on average, whatever their size."""
  rng = np.random.default_rng(0)
  for size in (4, 16):
    values = [
      scores.squared_mmd(rng.normal(size=(size, 2)), rng.normal(size=(size, 2)))
      for _ in range(4000)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))


def test_kernel_distance_is_the_same_again():
  rng = np.random.default_rng(0)
  x, y = features(rng, 60, 3), features(rng, 50, 3, 1.0)
  first, second, other = (
    scores.kernel_distance(x, y, subsets=5, subset_size=20, seed=seed)
    for seed in (0, 0, 1)
  )
  assert first == second
  assert first != other
  assert abs(first.mean - other.mean) < 10 * (
    first.standard_error + other.standard_error
  )


@pytest.mark.parametrize(
  ("x", "y", "message"),
  [
    (np.zeros((1, 3)), np.zeros((5, 3)), r"generated features have shape \(1, 3\)"),
    (np.zeros((5, 3)), np.zeros(5), r"reference features have shape \(5,\)"),
    (np.zeros((5, 3)), np.zeros((5, 4)), "both must come from one network"),
    (np.full((5, 3), np.inf), np.zeros((5, 3)), "not finite"),
  ],
)
def test_unsound_features(x, y, message):
  for distance in (scores.frechet_distance, scores.kernel_distance):
    with pytest.raises(UserError, match=message):
      distance(x, y)


def test_unsound_subsets():
  with pytest.raises(UserError, match="subsets is 0"):
    scores.kernel_distance(np.zeros((5, 3)), np.zeros((5, 3)), subsets=0)
