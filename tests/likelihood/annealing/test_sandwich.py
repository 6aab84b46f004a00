import jax
import numpy as np
import pytest
import toys

from infusion_jax import chain
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.annealing import estimator, temperatures
from infusion_jax.likelihood.annealing.sandwich import bounds, simulate

NUM_IMAGES = 400


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=3)


@pytest.fixture(scope="module")
def simulated(toy):
  return simulated_images(toy, NUM_IMAGES)


def simulated_images(toy, count):
  keys = importance.image_keys(jax.random.key(1), np.arange(count))
  return simulate(keys, toy.markov())


def of_length(toy, simulated, num_legs, **options):
  betas = temperatures.geometric(num_legs, 1e-2).astype(np.float32)
  plan = estimator.Schedule(betas, np.full(num_legs + 1, 0.5, np.float32))
  keys = importance.image_keys(jax.random.key(2), np.arange(NUM_IMAGES))
  return bounds(keys, toy.markov(), simulated, plan, **options)


def test_images_come_from_the_model(toy):
  many = simulated_images(toy, 20000)
  mean, variance = toy.marginal(3)
  np.testing.assert_allclose(many.x.mean(0), mean, atol=0.03)
  np.testing.assert_allclose(many.x.var(0), variance, rtol=0.05)
  # The noise is what made the image: what is left is the output's own variance.
  p = chain.decode(many.noise, toy.markov())
  left = np.square(many.x - p.mean).mean(0)
  np.testing.assert_allclose(left, toy.steps.variance[-1], rtol=0.05)


def test_image_depends_on_its_number_only(toy, simulated):
  few = simulated_images(toy, 3)
  np.testing.assert_allclose(few.x, simulated.x[:3], rtol=1e-5)
  np.testing.assert_array_equal(few.noise, simulated.noise[:3])


@pytest.mark.parametrize("num_chains", [1, 4])
def test_the_exact_density_lies_between(toy, simulated, num_chains):
  exact = toy.log_likelihood(simulated.x)
  found = of_length(toy, simulated, 8, num_chains=num_chains)
  for missing in (exact - found.lower, found.upper - exact):
    error = missing.std() / np.sqrt(NUM_IMAGES)
    assert missing.mean() > 4 * error
  gap = found.gap
  assert gap.mean == pytest.approx(np.mean(found.upper - found.lower), rel=1e-5)
  assert 0 < gap.standard_error < 0.2 * gap.mean


def test_the_reverse_weight_is_unbiased(toy, simulated):
  exact = toy.log_likelihood(simulated.x)
  found = of_length(toy, simulated, 20, num_chains=1)
  ratio = np.exp(exact - found.upper)
  error = ratio.std() / np.sqrt(NUM_IMAGES)
  assert error < 0.1
  assert abs(ratio.mean() - 1) < 4 * error


def test_a_longer_annealing_closes_the_gap(toy, simulated):
  short, long = (of_length(toy, simulated, n, num_chains=2).gap.mean for n in (5, 50))
  assert 0 < long < 0.3 * short
