"""Variances fitted once more, against a chain whose best ones are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import chain, likelihood
from infusion_jax.likelihood import calibration

pytestmark = pytest.mark.usefixtures("quick_compile")

WRONG = np.float32([3.0, 0.5, 2.0])


def wrong(toy, factors):
  """The same chain with its variances multiplied by [T] factors."""
  scale = jnp.asarray(factors)[:, None, None, None]
  steps = toy.steps._replace(variance=toy.steps.variance * scale)
  return toy._replace(steps=steps)


def test_without_infusion_inner_variances_stay_and_the_last_has_its_closed_form(key):
  """q is the model's own chain, so only x tells that a variance is wrong."""
  right = toys.linear_gaussian(3)
  model = wrong(right, WRONG)
  x = right.draw(jax.random.key(1), 4000)
  factors = calibration.fit_variances(key, model.markov(), x)
  np.testing.assert_allclose(factors[:-1], 1.0, atol=0.15)

  before = model.marginal(2)
  slope, offset, variance = (np.asarray(leaf[-1], np.float64) for leaf in model.steps)
  exact = np.square(np.asarray(x) - slope * before.mean - offset).mean(0)
  exact = (exact + slope**2 * before.variance) / variance
  np.testing.assert_allclose(factors[-1], exact, rtol=0.15)


def test_at_rate_one_a_step_is_fitted_to_the_targets_neighbourhood(key):
  """Every state is x with noise, whose residuals under the next step are known."""
  toy, narrow = toys.linear_gaussian(2), 0.03
  x = toy.draw(jax.random.key(1), 4000)
  factors = calibration.fit_variances(key, toy.markov(np.ones(2), narrow), x)
  slope, offset, variance = (np.asarray(leaf) for leaf in toy.steps)
  for t, noise in ((0, narrow * (1 + slope[0] ** 2)), (1, narrow * slope[1] ** 2)):
    residual = np.asarray(x) - slope[t] * np.asarray(x) - offset[t]
    exact = (np.square(residual).mean(0) + noise) / variance[t]
    inside = np.clip(exact, 0.1, 10)
    np.testing.assert_allclose(factors[t], inside, rtol=0.15)


def test_the_bound_is_best_at_the_last_factor(key):
  model = wrong(toys.linear_gaussian(3), WRONG)
  x = toys.linear_gaussian(3).draw(jax.random.key(1), 500)
  markov = model.markov([0.1, 0.2, 0.1])
  factors = calibration.fit_variances(key, markov, x)
  found = {}
  for scale in (0.0, 0.8, 1.0, 1.25):
    last = factors[-1] * scale if scale else jnp.ones_like(factors[-1])
    only = jnp.ones_like(factors).at[-1].set(last)
    scaled = calibration.scale_variances(markov, only)
    estimates = likelihood.evaluate(jax.random.key(3), scaled, x, num_chains=20)
    found[scale] = float(np.mean(estimates.bound))
  assert found[1.0] > max(found[0.8], found[1.25])
  assert found[1.0] > found[0.0] + 0.1


def test_factors_of_one_change_nothing_and_others_multiply(key):
  toy = toys.linear_gaussian(2)
  markov, shape = toy.markov(), (2, *toy.prior.mean.shape)
  plain = chain.generate(key, markov, 3).prediction
  same = chain.generate(key, calibration.scale_variances(markov, jnp.ones(shape)), 3)
  jax.tree.map(np.testing.assert_array_equal, same.prediction, plain)
  last = jnp.ones(shape).at[-1].set(4.0)
  other = chain.generate(key, calibration.scale_variances(markov, last), 3).prediction
  np.testing.assert_array_equal(other.mean, plain.mean)
  np.testing.assert_allclose(other.variance, 4.0 * plain.variance, rtol=1e-6)


def test_the_floor_of_the_last_variance_alone_changes(key):
  toy = toys.linear_gaussian(3)
  markov = toy.markov()

  def variances(markov):
    def record(visit):
      return visit.after.variance

    return chain.generate(key, markov, 2, record=record).trace

  lower = calibration.with_output_floor(markov, 0.01, 0.004)
  before, after = variances(markov), variances(lower)
  np.testing.assert_array_equal(after[:-1], before[:-1])
  np.testing.assert_allclose(before[-1] - after[-1], 0.006, atol=1e-6)


def test_batches_do_not_matter(key, monkeypatch):
  toy = toys.linear_gaussian(2)
  x = toy.draw(jax.random.key(1), 50)
  whole = calibration.fit_variances(key, toy.markov([0.3, 0.3]), x)
  monkeypatch.setattr(calibration, "_BATCH", 20)
  parts = calibration.fit_variances(key, toy.markov([0.3, 0.3]), x)
  np.testing.assert_allclose(parts, whole, rtol=1e-5)
