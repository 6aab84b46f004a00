"""Integer pixels as real ones: every value stays in its own grey level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from infusion_jax import pixels

pytestmark = pytest.mark.usefixtures("quick_compile")

LEVELS = [17, 256]


def all_values(levels, copies):
  values = np.arange(levels, dtype=np.uint8)
  return jnp.asarray(np.tile(values[None, :, None, None], (copies, 1, 1, 1)))


@pytest.mark.parametrize("levels", LEVELS)
def test_scaled_divides_by_the_number_of_levels(levels):
  images = all_values(levels, 2)
  clean = pixels.scaled(images, levels)
  assert clean.dtype == jnp.float32
  np.testing.assert_allclose(
    clean[0, :, 0, 0], np.arange(levels) / levels, rtol=1e-7, atol=0
  )
  assert clean.max() < 1


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("per_image", [False, True])
def test_dequantized_is_uniform_within_the_level(key, levels, per_image):
  images = all_values(levels, 200)
  keys = jax.random.split(key, 200) if per_image else key
  x = np.asarray(pixels.dequantized(keys, images, levels), np.float64)
  noise = (x * levels - np.asarray(images)).ravel()
  assert scipy.stats.kstest(noise, "uniform").pvalue > 0.01
  # One draw per pixel and image, none shared along an axis.
  assert noise.reshape(x.shape).std(0).min() > 0.1
  assert noise.reshape(x.shape).std(1).min() > 0.1


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("noise", [0.0, 1.0 - 2.0**-23, 1.0 - 2.0**-17])
def test_dequantized_stays_in_its_level_whatever_the_noise(
  key, levels, noise, monkeypatch
):
  """Even the largest uniform draw must not round up into the next level."""
  monkeypatch.setattr(
    pixels.random, "uniform", lambda key, shape: jnp.full(shape, noise, jnp.float32)
  )
  images = all_values(levels, 1)
  x = np.asarray(pixels.dequantized(key, images, levels))[0, :, 0, 0]
  edges = np.asarray(pixels.scaled(jnp.arange(levels + 1), levels))
  assert (x >= edges[:-1]).all()
  assert (x < edges[1:]).all()


def test_dequantized_draws_each_image_from_its_own_key(key):
  images = jnp.zeros((3, 4, 5, 2), jnp.uint8)
  keys = jax.random.split(key, 3)
  x = pixels.dequantized(keys, images, 256)
  np.testing.assert_array_equal(x[1:2], pixels.dequantized(keys[1:2], images[1:2], 256))
  assert (x[0] != x[1]).all()
