import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from infusion_jax import UserError
from infusion_jax.metrics import parzen


@pytest.fixture(scope="module")
def sets():
  rng = np.random.default_rng(0)
  means = rng.uniform(size=(200, 4, 5, 1)).astype(np.float32)
  images = np.concatenate([means[:37] + 0.1, rng.uniform(size=(20, 4, 5, 1))])
  return images.astype(np.float32), means


def in_double(images, means, sigma):
  x, m = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (images, means))
  exponent = -np.square(x[:, None] - m).sum(-1) / (2 * sigma**2)
  constant = np.log(len(m)) + 0.5 * m.shape[1] * np.log(2 * np.pi * sigma**2)
  return np.logaddexp.reduce(exponent, axis=1) - constant


@pytest.mark.parametrize("sigma", [0.05, 0.17, 1.0])
def test_against_scikit_learn(sets, sigma):
  images, means = sets
  flat = [a.reshape(len(a), -1) for a in sets]
  # One leaf, a direct sum: the tree's own bounds are nats off in 20 dimensions.
  reference = KernelDensity(bandwidth=sigma, leaf_size=len(means)).fit(flat[1])
  expected = reference.score_samples(flat[0])
  found = parzen.log_likelihood(images, means, sigma)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("offset", [0.0, 5.0])
@pytest.mark.parametrize("sigma", [0.02, 0.17])
def test_float32_against_float64(offset, sigma):
  # As large as MNIST; an offset is where uncentred products cancel.
  rng = np.random.default_rng(1)
  means = (offset + rng.uniform(size=(300, 784))).astype(np.float32)
  images = (means[:40] + sigma * rng.normal(size=(40, 784))).astype(np.float32)
  found = parzen.log_likelihood(images, means, sigma)
  np.testing.assert_allclose(found, in_double(images, means, sigma), atol=0.1)


def test_chunks_do_not_matter(sets):
  whole = parzen.log_likelihood(*sets)
  np.testing.assert_allclose(
    parzen.log_likelihood(*sets, chunk_size=10), whole, rtol=1e-5
  )


def test_several_widths_at_once(sets):
  sigmas = np.array([0.1, 0.17, 0.3])
  found = parzen.log_likelihood(*sets, sigmas)
  assert found.shape == (3, 57)
  for row, sigma in zip(found, sigmas, strict=True):
    np.testing.assert_allclose(row, parzen.log_likelihood(*sets, sigma), rtol=1e-5)


def test_mean_and_standard_error(sets):
  found = parzen.evaluate(*sets, 0.2)
  values = in_double(*sets, 0.2)
  assert found.mean == pytest.approx(values.mean(), abs=1e-2)
  assert found.standard_error == pytest.approx(
    values.std(ddof=1) / np.sqrt(len(values)), rel=1e-3
  )


def test_the_width_is_found_again():
  rng = np.random.default_rng(2)
  means = rng.normal(scale=3.0, size=(50, 30))
  images = means[rng.integers(50, size=400)] + 0.2 * rng.normal(size=(400, 30))
  sigmas = np.array([0.05, 0.1, 0.2, 0.4, 0.8])
  found = parzen.choose_sigma(images, means, sigmas)
  assert found.best == 0.2
  expected = [in_double(images, means, s).mean() for s in sigmas]
  np.testing.assert_allclose(found.log_likelihood, expected, rtol=1e-4)
  assert np.all(found.standard_error > 0)


def test_default_widths_include_the_published_one(sets):
  found = parzen.choose_sigma(*sets)
  assert parzen.SIGMA in found.sigmas
  assert np.all(np.diff(found.sigmas) > 0)


def test_far_images_and_a_single_mean_are_finite():
  means = np.zeros((1, 784), np.float32)
  images = np.full((1, 784), 1e3, np.float32)
  found = parzen.log_likelihood(images, means, 0.01)
  np.testing.assert_allclose(found, in_double(images, means, 0.01), rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.array([0.1, 0.0])])
def test_widths_must_be_positive(sets, sigma):
  with pytest.raises(UserError, match="parzen sigma is"):
    parzen.log_likelihood(*sets, sigma)


def test_shapes_must_agree(sets):
  images, means = sets
  with pytest.raises(UserError, match=r"\(57, 4, 5, 1\) .* \(200, 20\)"):
    parzen.log_likelihood(images, means.reshape(200, 20))
  with pytest.raises(UserError, match="non-empty"):
    parzen.log_likelihood(images, means[:0])
