"""Batch norm with parameters and statistics of the step's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax.networks import StepBatchNorm
from infusion_jax.networks.norm import STATISTICS, STEP

pytestmark = pytest.mark.usefixtures("quick_compile")

EPSILON = 1e-4


def activations(shape, seed=0):
  return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


def variables(features):
  rng = np.random.default_rng(1)
  draw = [jnp.asarray(rng.uniform(0.5, 2, features), jnp.float32) for _ in range(4)]
  return {
    STEP: {"scale": draw[0], "bias": draw[1]},
    STATISTICS: {"mean": draw[2], "variance": draw[3]},
  }


def normalized(h, step, statistics):
  h = (h - statistics["mean"]) / np.sqrt(statistics["variance"] + EPSILON)
  return step["scale"] * h + step["bias"]


@pytest.mark.parametrize("shape", [(7, 5), (3, 2, 4, 5)])
def test_training_normalizes_by_the_batch_and_reports_it(shape):
  """Over all axes but the last, images and positions alike."""
  h, given = activations(shape), variables(5)
  result, reported = StepBatchNorm().apply(given, h, True, mutable=[STATISTICS])
  flat = h.reshape(-1, 5).astype(np.float64)
  batch = {"mean": flat.mean(0), "variance": flat.var(0)}
  np.testing.assert_allclose(
    result, normalized(h, given[STEP], batch), rtol=1e-5, atol=1e-5
  )
  for name, expected in batch.items():
    np.testing.assert_allclose(reported[STATISTICS][name], expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 5), (3, 2, 4, 5)])
def test_fixed_mode_normalizes_by_the_given_statistics(shape):
  h, given = activations(shape), variables(5)
  result, reported = StepBatchNorm().apply(given, h, False, mutable=[STATISTICS])
  expected = normalized(h, given[STEP], given[STATISTICS])
  np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
  for name, value in given[STATISTICS].items():
    np.testing.assert_array_equal(reported[STATISTICS][name], value)


def test_epsilon_is_what_a_constant_unit_is_divided_by():
  h = np.asarray([[1.0], [1.02]], np.float32)
  given = {STEP: {"scale": np.ones(1), "bias": np.zeros(1)}}
  for epsilon in (1e-4, 3e-4):
    norm = StepBatchNorm(epsilon=epsilon) if epsilon != EPSILON else StepBatchNorm()
    result, _ = norm.apply(given, h, True, mutable=[STATISTICS])
    # The variance is 1e-4 too, so epsilon matters as much.
    expected = 0.01 / np.sqrt(1e-4 + epsilon)
    np.testing.assert_allclose(result, [[-expected], [expected]], rtol=1e-3)


def test_variance_survives_a_large_mean():
  """E[h^2] - E[h]^2 would lose all digits in single precision."""
  h = (3000 + activations((200, 1)) / 30).astype(np.float32)
  _, reported = StepBatchNorm().apply(variables(1), h, True, mutable=[STATISTICS])
  np.testing.assert_allclose(
    reported[STATISTICS]["variance"], h.astype(np.float64).var(0), rtol=1e-2
  )


def test_initial_values_do_not_depend_on_the_input():
  for train in (False, True):
    init = StepBatchNorm().init(jax.random.key(0), activations((7, 5)), train)
    np.testing.assert_array_equal(init[STEP]["scale"], np.ones(5))
    np.testing.assert_array_equal(init[STEP]["bias"], np.zeros(5))
    np.testing.assert_array_equal(init[STATISTICS]["mean"], np.zeros(5))
    np.testing.assert_array_equal(init[STATISTICS]["variance"], np.ones(5))


def test_half_precision_keeps_its_statistics_in_single():
  h = jnp.asarray(activations((64, 5)) + 100, jnp.bfloat16)
  norm = StepBatchNorm(dtype=jnp.bfloat16)
  result, reported = norm.apply(variables(5), h, True, mutable=[STATISTICS])
  assert result.dtype == jnp.bfloat16
  exact = np.asarray(h, np.float64)
  for name, expected in (("mean", exact.mean(0)), ("variance", exact.var(0))):
    assert reported[STATISTICS][name].dtype == jnp.float32
    np.testing.assert_allclose(reported[STATISTICS][name], expected, rtol=1e-5)


def test_a_spread_batch_has_the_same_value_and_gradient():
  """The term that its gradient leaves out is zero, about a large mean, too."""
  h, given = jnp.asarray(activations((16, 5)) + 100), variables(5)
  weights = jnp.asarray(activations((16, 5), seed=2))

  def loss(h, step, spread):
    norm = StepBatchNorm(spread=spread)
    result, _ = norm.apply({**given, STEP: step}, h, True, mutable=[STATISTICS])
    return (weights * jnp.square(result)).sum()

  one, many = (
    jax.value_and_grad(lambda *a, s=s: loss(*a, s), (0, 1))(h, given[STEP])
    for s in (False, True)
  )
  assert one[0] == many[0]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), one, many
  )
