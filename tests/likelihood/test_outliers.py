"""Outputs that expect outliers: against closed forms and integration."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import chain, gaussian, likelihood
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.annealing import estimator, temperatures
from infusion_jax.likelihood.annealing.sandwich import simulate

pytestmark = pytest.mark.usefixtures("quick_compile")

SHARE = 0.2


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(2)


@pytest.fixture(scope="module")
def markov(toy):
  return dataclasses.replace(toy.markov([0.1, 0.1]), outliers=SHARE)


def exact(toy, x):
  """Pixels are independent of each other, so each is a mixture by itself. Float64."""
  x = np.asarray(x, np.float64)
  p = np.exp(toys.log_normal(x, *toy.marginal(toy.num_steps)))
  uniform = (x >= 0) & (x <= 1)
  return np.log((1 - SHARE) * p + SHARE * uniform).sum((1, 2, 3))


def test_it_is_a_density():
  x = jnp.linspace(-3.0, 4.0, 70_001)
  log_p = gaussian.log_density(x, Gaussian(jnp.float32(0.3), jnp.float32(0.01)))
  mixed = gaussian.with_outliers(log_p, x, SHARE)
  assert np.trapezoid(np.exp(np.asarray(mixed, np.float64)), x) == pytest.approx(
    1.0, abs=1e-4
  )


def test_no_pixel_costs_more_than_its_share_says_and_gradients_are_finite():
  x = jnp.float32([0.0, 0.5, 1.0])

  def total(mean):
    log_p = gaussian.log_density(x, Gaussian(mean, jnp.float32(1e-6)))
    return gaussian.with_outliers(log_p, x, 1e-3).sum()

  value, gradient = jax.value_and_grad(total)(jnp.float32(0.5))
  peak = -0.5 * np.log(2 * np.pi * 1e-6)
  assert value == pytest.approx(2 * np.log(1e-3) + peak + np.log1p(-1e-3), rel=1e-5)
  assert np.isfinite(gradient)


def test_outside_the_unit_interval_nothing_is_uniform():
  x = jnp.float32([-0.1, 1.1])
  log_p = jnp.float32([-2.0, -3.0])
  found = gaussian.with_outliers(log_p, x, SHARE)
  np.testing.assert_allclose(found, log_p + np.log(1 - SHARE), rtol=1e-6)


def test_without_outliers_the_very_array_comes_back():
  log_p = jnp.float32([-2.0])
  assert gaussian.with_outliers(log_p, log_p, 0.0) is log_p


def test_bound_and_importance_sampling_meet_the_exact_density(toy, markov):
  x = jnp.clip(toy.draw(jax.random.key(1), 40), -1.0, 0.9)
  found = likelihood.evaluate(jax.random.key(2), markov, x, num_chains=4000)
  truth = exact(toy, x)
  assert np.mean(found.bound) < np.mean(truth) - 0.05
  np.testing.assert_allclose(found.importance[0], truth, atol=0.15)
  assert abs(np.mean(found.importance[0] - truth)) < 0.03


def test_annealing_meets_the_exact_density(toy, markov):
  x = jnp.clip(toy.draw(jax.random.key(1), 40), -1.0, 0.9)
  betas = temperatures.geometric(60, 1e-2).astype(np.float32)
  plan = estimator.Schedule(betas, np.full(61, 0.5, np.float32))
  keys = importance.image_keys(jax.random.key(3), np.arange(len(x)))
  found = estimator.estimate(keys, markov, x, plan, num_chains=8)
  missing = exact(toy, x) - found
  error = missing.std() / np.sqrt(len(x))
  assert abs(missing.mean()) < 3 * error + 0.03


def test_simulated_images_have_their_share_of_uniform_pixels(toy, markov):
  keys = importance.image_keys(jax.random.key(4), np.arange(4000))
  plain = simulate(keys, dataclasses.replace(markov, outliers=0.0))
  mixed = simulate(keys, markov)
  np.testing.assert_array_equal(mixed.noise, plain.noise)
  replaced = np.asarray(mixed.x != plain.x)
  assert replaced.mean() == pytest.approx(SHARE, abs=0.01)
  values = np.asarray(mixed.x)[replaced]
  assert values.min() >= 0 and values.max() < 1
  assert values.var() == pytest.approx(1 / 12, rel=0.05)


def test_pictures_do_not_change(toy, markov):
  plain = dataclasses.replace(markov, outliers=0.0)
  first, second = (chain.generate(jax.random.key(0), m, 3) for m in (plain, markov))
  np.testing.assert_array_equal(first.prediction.mean, second.prediction.mean)
