"""Keys derived by name and step; draws for a batch or image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from infusion_jax import random

pytestmark = pytest.mark.usefixtures("quick_compile")

DRAWS = [(random.normal, "norm"), (random.uniform, "uniform")]


def data(keys):
  return np.asarray(jax.random.key_data(keys))


def test_fold_in_of_a_batch_of_keys_is_fold_in_of_each(key):
  keys = jax.random.split(key, 3)
  folded = random.fold_in(keys, 7)
  assert folded.shape == (3,)
  for i in range(3):
    np.testing.assert_array_equal(data(folded[i]), data(jax.random.fold_in(keys[i], 7)))
  np.testing.assert_array_equal(
    data(random.fold_in(key, 7)), data(jax.random.fold_in(key, 7))
  )


def test_named_streams_are_stable_and_differ(key):
  # The 32-bit FNV-1a hash of "a" is published: 0xE40C292C.
  expected = jax.random.fold_in(key, jnp.uint32(0xE40C292C))
  np.testing.assert_array_equal(data(random.named(key, "a")), data(expected))
  names = ["a", "b", "ab", "ba", "", "dequantize", "chain"]
  streams = {tuple(data(random.named(key, name))) for name in names}
  assert len(streams) == len(names)


def test_named_takes_one_key_per_image(key):
  keys = jax.random.split(key, 2)
  named = random.named(keys, "noise")
  for i in range(2):
    np.testing.assert_array_equal(data(named[i]), data(random.named(keys[i], "noise")))


def test_steps_are_fold_ins_of_the_step(key):
  derived = random.steps(key, 4)
  assert derived.shape == (4,)
  for t in range(4):
    np.testing.assert_array_equal(data(derived[t]), data(jax.random.fold_in(key, t)))


def test_steps_of_a_batch_have_time_in_front(key):
  keys = jax.random.split(key, 3)
  derived = random.steps(keys, 2)
  assert derived.shape == (2, 3)
  for t in range(2):
    for i in range(3):
      np.testing.assert_array_equal(
        data(derived[t, i]), data(jax.random.fold_in(keys[i], t))
      )


@pytest.mark.parametrize(("draw", "name"), DRAWS)
def test_one_key_draws_the_distribution(key, draw, name):
  values = np.asarray(draw(key, (100, 5, 5, 2)))
  assert values.shape == (100, 5, 5, 2)
  assert values.dtype == np.float32
  assert scipy.stats.kstest(values.ravel(), name).pvalue > 0.01


@pytest.mark.parametrize(("draw", "name"), DRAWS)
def test_one_key_per_image_draws_the_distribution_image_by_image(key, draw, name):
  keys, shape = jax.random.split(key, 100), (100, 5, 5, 2)
  values = np.asarray(draw(keys, shape))
  assert scipy.stats.kstest(values.ravel(), name).pvalue > 0.01
  # Neither the order nor the size of the batch matters.
  np.testing.assert_array_equal(draw(keys[::-1], shape), values[::-1])
  np.testing.assert_array_equal(draw(keys[2:3], (1, *shape[1:])), values[2:3])


@pytest.mark.parametrize(("draw", "name"), DRAWS)
def test_draws_take_a_dtype(key, draw, name, x64):
  del name, x64
  for keys in (key, jax.random.split(key, 100)):
    for dtype in (jnp.float32, jnp.float64):
      values = jax.eval_shape(lambda k, d=dtype: draw(k, (100, 3), d), keys)
      assert values.dtype == dtype
      assert values.shape == (100, 3)
    assert jax.eval_shape(lambda k: draw(k, (100, 3)), keys).dtype == jnp.float32
