"""Gaussians given means of their pixels, against matrices; chains held to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import UserError, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.restoration import observation
from infusion_jax.restoration.observation import GREY, Means

SHAPE = (4, 2, 3)
ALL = {
  "blocks": Means(2),
  "grey": Means(weights=GREY),
  "small and grey": Means(2, weights=(0.2, 0.3, 0.5)),
}


def matrix(means):
  """A, column by column: [observed, pixels]."""
  unit = jnp.eye(int(np.prod(SHAPE))).reshape(-1, *SHAPE)
  return np.asarray(means.observe(unit)).reshape(len(unit), -1).T


@pytest.fixture(params=ALL)
def means(request):
  return ALL[request.param]


@pytest.fixture
def p():
  generator = np.random.default_rng(0)
  mean, variance = generator.uniform(0.1, 1.0, (2, *SHAPE))
  return Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(variance, jnp.float32))


def test_observations_are_weighted_means(means):
  a = matrix(means)
  np.testing.assert_allclose(a.sum(1), 1.0, rtol=1e-5)
  # Each pixel is in one mean.
  assert ((a > 0).sum(0) == 1).all()


def test_blocks_are_squares():
  x = np.arange(16.0, dtype=np.float32).reshape(1, 4, 4, 1)
  found = Means(2).observe(jnp.asarray(x))[0, ..., 0]
  np.testing.assert_allclose(found, [[2.5, 4.5], [10.5, 12.5]])
  spread = Means(2).spread(found[None, ..., None])
  np.testing.assert_allclose(spread[0, :2, :2, 0], 2.5)


def test_draws_given_an_observation_have_the_conditional_moments(means, p, key):
  a, count = matrix(means), 40_000
  mean, variance = (np.asarray(leaf, np.float64).ravel() for leaf in p)
  y = a @ mean + np.linspace(-0.3, 0.3, len(a))
  gain = variance[:, None] * a.T @ np.linalg.inv(a * variance @ a.T)
  expected = mean + gain @ (y - a @ mean)
  covariance = np.diag(variance) - gain @ a * variance
  many = Gaussian(*(jnp.broadcast_to(leaf, (count, *SHAPE)) for leaf in p))
  shape = means.observe(p.mean[None]).shape
  target = jnp.broadcast_to(y.astype(np.float32).reshape(shape), (count, *shape[1:]))
  drawn = np.asarray(observation.observing(means, target)(key, many).value)
  np.testing.assert_allclose(
    drawn.reshape(count, -1) @ a.T, np.tile(y, (count, 1)), atol=1e-5
  )
  np.testing.assert_allclose(drawn.mean(0).ravel(), expected, atol=0.03)
  found = np.cov(drawn.reshape(count, -1).T)
  np.testing.assert_allclose(found, covariance, atol=0.03)


def test_a_picture_is_moved_by_one_number_a_mean(means, key):
  x = jax.random.uniform(key, (2, *SHAPE))
  y = means.observe(x) + jax.random.normal(key, means.observe(x).shape)
  found = means.moved(x, y)
  np.testing.assert_allclose(means.observe(found), y, atol=1e-5)
  change = jnp.broadcast_to(means.spread(y - means.observe(x)), x.shape)
  np.testing.assert_allclose(found - x, change, atol=1e-5)


def test_a_chain_is_held_to_its_observation(key):
  toy = toys.linear_gaussian(3, (4, 4, 1))
  x = toy.draw(key, 5)
  means = Means(2)
  keys = jax.random.split(key, 5)
  found = observation.restore(toy.markov(), keys, means.observe(x), means)
  np.testing.assert_allclose(means.observe(found), means.observe(x), atol=1e-5)
  again = observation.restore(toy.markov(), keys[2:3], means.observe(x[2:3]), means)
  np.testing.assert_allclose(again[0], found[2], atol=1e-5)
  other = observation.restore(
    toy.markov(), random.fold_in(keys, 1), means.observe(x), means
  )
  assert abs(other - found).max() > 1e-3


@pytest.mark.parametrize(
  ("means", "told"),
  [
    (Means(3), "factor is 3; it must divide"),
    (Means(weights=(0.5, 0.5)), "3 channels"),
  ],
)
def test_means_that_do_not_fit_are_refused(means, told):
  with pytest.raises(UserError, match=told):
    means.check(SHAPE)
