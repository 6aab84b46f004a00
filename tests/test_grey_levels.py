"""Probabilities of grey levels: against scipy, sums, enumeration and integrals."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import toys

from infusion_jax import gaussian, objectives, pixels
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.annealing import estimator, sandwich, temperatures


def exact(v, mean, variance, levels):
  """log P(v) + log(levels) in float64; scipy's tails are exact."""
  scale = np.sqrt(variance)
  low = -np.inf if v == 0 else (v / levels - mean) / scale
  high = np.inf if v == levels - 1 else ((v + 1) / levels - mean) / scale
  if low + high > 0:
    low, high = -high, -low
  log_high, log_low = scipy.stats.norm.logcdf([high, low])
  return log_high + np.log1p(-np.exp(log_low - log_high)) + np.log(levels)


@hypothesis.given(
  v=st.integers(0, 255),
  mean=st.floats(-0.2, 1.2),
  log_variance=st.floats(-6, 0),
  levels=st.sampled_from([2, 17, 256]),
)
def test_it_is_the_mass_between_the_ends(v, mean, log_variance, levels):
  v, variance = v % levels, 10**log_variance
  x = np.float32((v + 0.5) / levels)
  p = Gaussian(jnp.float32(mean), jnp.float32(variance))
  found = gaussian.log_bin_density(x, p, levels)
  expected = exact(v, np.float64(p.mean), np.float64(p.variance), levels)
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("variance", [1e-6, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("mean", [-0.1, 0.0, 0.3, 1.0])
def test_probabilities_of_all_levels_sum_to_one(levels, variance, mean):
  x = pixels.middles(jnp.arange(levels), levels)
  log_p = gaussian.log_bin_density(x, Gaussian(mean, jnp.float32(variance)), levels)
  total = np.exp(np.asarray(log_p, np.float64)).sum() / levels
  assert total == pytest.approx(1.0, abs=3e-5)


@pytest.mark.parametrize("v", [0, 1, 128, 254, 255])
@pytest.mark.parametrize("mean", [-0.5, 0.25, 0.5, 1.5])
@pytest.mark.parametrize("variance", [1e-6, 1e-4, 1e-2, 0.5])
def test_gradients_are_those_of_differences(v, mean, variance, x64):
  x = (v + 0.5) / 256

  def log_p(mean, variance):
    return gaussian.log_bin_density(jnp.float64(x), Gaussian(mean, variance), 256)

  found = jax.grad(log_p, (0, 1))(jnp.float64(mean), jnp.float64(variance))
  for index, step in ((0, 1e-6 * variance**0.5), (1, 1e-5 * variance)):
    ends = [[mean, variance], [mean, variance]]
    ends[0][index] -= step
    ends[1][index] += step
    low, high = (float(log_p(*map(jnp.float64, end))) for end in ends)
    slope = (high - low) / (2 * step)
    np.testing.assert_allclose(found[index], slope, rtol=1e-3, atol=1e-5)


def test_gradients_stay_finite_in_single_precision():
  v = jnp.arange(256)
  x = pixels.middles(v, 256)

  def total(mean, log_variance):
    p = Gaussian(mean, jnp.exp(log_variance))
    return gaussian.log_bin_density(x, p, 256).sum()

  for mean in (-2.0, 0.0, 0.5, 3.0):
    for log_variance in (-14.0, -9.0, 0.0):
      value, slopes = jax.value_and_grad(total, (0, 1))(mean, log_variance)
      assert np.isfinite([value, *slopes]).all()


# --- One pixel, three levels: all integers, and the integral over the chain -----------

LEVELS = 3


def one_pixel(levels=LEVELS):
  toy = toys.linear_gaussian(num_steps=2, shape=(1, 1, 1), seed=3)
  return toy, dataclasses.replace(toy.markov(np.full(2, 0.2), 0.05), levels=levels)


def log_probabilities(toy):
  """log P(v) + log(levels) of every v, by integrating over z^(T-1)."""
  before = toy.marginal(toy.num_steps - 1)
  slope, offset, variance = (leaf[-1].item() for leaf in toy.steps)
  mean, spread = before.mean.item(), np.sqrt(before.variance.item())

  def integrand(z, v):
    weight = scipy.stats.norm.pdf(z, mean, spread)
    return weight * np.exp(exact(v, slope * z + offset, variance, LEVELS))

  ends = mean - 9 * spread, mean + 9 * spread
  found = [scipy.integrate.quad(integrand, *ends, args=(v,))[0] for v in range(LEVELS)]
  assert sum(found) / LEVELS == pytest.approx(1.0, abs=1e-7)
  return np.log(found)


def images():
  return pixels.middles(jnp.arange(LEVELS).reshape(-1, 1, 1, 1), LEVELS)


def test_importance_sampling_finds_the_probability_of_every_integer(key):
  toy, markov = one_pixel()
  keys = importance.image_keys(key, np.arange(LEVELS))
  found = importance.estimate(
    keys, markov, images(), num_chains=20_000, chunk_size=2000
  )
  expected = log_probabilities(toy)
  error = np.sqrt(1 / found.ess)
  assert np.all(error < 0.05)
  assert np.all(np.abs(found.importance - expected) < 4 * error)
  assert np.all(found.bound < expected)


def test_annealing_finds_it_too_and_the_sandwich_brackets_it(key):
  toy, markov = one_pixel()
  keys = importance.image_keys(key, np.arange(LEVELS))
  plan = estimator.Schedule(temperatures.geometric(60, 1e-2), np.full(61, 0.6))
  found = estimator.estimate(keys, markov, images(), plan, num_chains=400)
  expected = log_probabilities(toy)
  np.testing.assert_allclose(found, expected, atol=0.05)
  keys = importance.image_keys(key, np.arange(200))
  simulated = sandwich.simulate(keys, markov)
  values = np.asarray(simulated.x).ravel()
  assert set(np.round(values * LEVELS - 0.5, 5)) <= {0.0, 1.0, 2.0}
  both = sandwich.bounds(keys, markov, simulated, plan, num_chains=8)
  truth = expected[np.round(values * LEVELS - 0.5).astype(int)]
  for side, sign in ((both.lower, 1), (both.upper, -1)):
    short = sign * (truth - side)
    assert short.mean() > -3 * short.std() / np.sqrt(len(short))
    assert short.mean() < 0.1


def test_simulated_integers_have_their_probabilities(key):
  toy, markov = one_pixel()
  keys = jax.random.split(key, 20_000)
  values = np.asarray(sandwich.simulate(keys, markov).x).ravel()
  counts = np.bincount(np.round(values * LEVELS - 0.5).astype(int), minlength=LEVELS)
  share = np.exp(log_probabilities(toy)) / LEVELS
  error = np.sqrt(share * (1 - share) / len(values))
  assert np.all(np.abs(counts / len(values) - share) < 4 * error)


@pytest.mark.parametrize("name", ["denoising", "lower_bound"])
def test_criteria_learn_probabilities_of_levels(name, x64, key):
  parameters = toys.operator_parameters(3)
  shape = (2, 3, 1)
  x = pixels.of_levels(jax.random.uniform(key, (4, *shape)), 17).astype(jnp.float64)
  prior = Gaussian(jnp.full(shape, 0.5), jnp.full(shape, 0.1))
  infusion = toys.Infusion(prior, jnp.asarray([0.0, 0.1, 0.3]), 1e-2)

  def loss(parameters):
    found = objectives.CRITERIA[name](
      key, toys.operator, parameters, x, infusion, levels=17
    )
    return found.loss, found

  (_, found) = jax.jit(loss)(parameters)
  again = jax.jit(
    lambda: objectives.CRITERIA[name](key, toys.operator, parameters, x, infusion)
  )()
  assert found.loss != again.loss
  assert not np.allclose(found.terms.reconstruction, again.terms.reconstruction)
  np.testing.assert_allclose(found.terms.prior, again.terms.prior)
  if name == "lower_bound":
    # The chain's draws do not see the output: the loss may be differenced.
    step = 1e-6
    heads = parameters.shared["heads"]
    ends = []
    for sign in (-1, 1):
      moved = {**parameters.shared, "heads": heads.at[0, 0].add(sign * step)}
      ends.append(float(jax.jit(loss)(parameters._replace(shared=moved))[0]))
    slope = (ends[1] - ends[0]) / (2 * step)
    gradient = found.gradient.shared["heads"][0, 0]
    np.testing.assert_allclose(gradient, slope, rtol=1e-5)
