"""Trivial models against plain loops, scipy and sums that must be one."""

import itertools

import numpy as np
import pytest
import scipy.stats

from infusion_jax import likelihood
from infusion_jax.errors import UserError
from infusion_jax.likelihood import baselines

LEVELS = 4


def integers(count, shape=(2, 3, 1), seed=0):
  generator = np.random.default_rng(seed)
  base = generator.integers(0, LEVELS, (count, 1, 1, 1))
  return (base + generator.integers(0, 2, (count, *shape))).clip(0, LEVELS - 1)


def test_a_histogram_is_a_probability_of_the_integers():
  train = integers(30, (1, 2, 1))
  every = np.array([*itertools.product(range(LEVELS), repeat=2)]).reshape(-1, 1, 2, 1)
  nats = baselines.histogram(train, every, LEVELS) - 2 * np.log(LEVELS)
  assert np.exp(nats).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_histogram_is_counted_pixel_by_pixel():
  train, images = integers(50), integers(7, seed=1)
  expected = np.zeros(7)
  for index in np.ndindex(images.shape[1:]):
    for i, image in enumerate(images):
      count = (train[(slice(None), *index)] == image[index]).sum()
      expected[i] += np.log((count + 1 / LEVELS) / (50 + 1)) + np.log(LEVELS)
  found = baselines.histogram(train, images, LEVELS)
  np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_the_gaussian_is_that_of_scipy_on_average_over_the_noise(floor):
  train, images = integers(200), integers(5, seed=1)
  rows = (train.reshape(200, -1) + 0.5) / LEVELS
  covariance = np.cov(rows.T, bias=True) + np.eye(6) * (1 / 12 / LEVELS**2 + floor)
  noise = np.random.default_rng(2).uniform(size=(40_000, 5, 6))
  x = (images.reshape(5, -1) + noise) / LEVELS
  log_p = scipy.stats.multivariate_normal(rows.mean(0), covariance).logpdf(x)
  found = baselines.full_gaussian(train, images, LEVELS, floor)
  error = log_p.std(0) / np.sqrt(len(log_p))
  assert np.all(np.abs(found - log_p.mean(0)) < 4 * error)


def test_chunks_of_training_images_change_nothing(monkeypatch):
  train, images = integers(101), integers(4, seed=1)
  whole = baselines.full_gaussian(train, images, LEVELS)
  monkeypatch.setattr(baselines, "_CHUNK", 10)
  np.testing.assert_allclose(
    baselines.full_gaussian(train, images, LEVELS), whole, rtol=1e-10
  )


def test_images_that_are_too_large_are_told():
  images = np.zeros((2, 65, 64, 1), np.uint8)
  with pytest.raises(UserError, match=r"4160 values.*at most 4096"):
    baselines.full_gaussian(images, images, LEVELS)


def test_a_uniform_histogram_costs_all_its_bits():
  train = np.tile(np.arange(LEVELS)[:, None, None, None], (25, 1, 1, 1))
  nats = baselines.histogram(train, train, LEVELS)
  bits = likelihood.bits_per_dimension(nats, (1, 1, 1), LEVELS)
  np.testing.assert_allclose(bits, 2.0, rtol=1e-12)
