"""Keys derived by name and step; draws for a batch or image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from infusion_jax import random

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
  values = np.asarray(draw(key, (4, 25, 25, 2)))
  assert values.shape == (4, 25, 25, 2)
  assert values.dtype == np.float32
  assert scipy.stats.kstest(values.ravel(), name).pvalue > 0.01


@pytest.mark.parametrize(("draw", "name"), DRAWS)
def test_one_key_per_image_draws_the_distribution(key, draw, name):
  values = np.asarray(draw(jax.random.split(key, 100), (100, 5, 5, 2)))
  assert scipy.stats.kstest(values.ravel(), name).pvalue > 0.01


@pytest.mark.parametrize(("draw", "name"), DRAWS)
def test_image_with_its_own_key_ignores_batch_and_order(key, draw, name):
  del name
  keys = jax.random.split(key, 4)
  together = draw(keys, (4, 3, 2, 1))
  shuffled = draw(keys[::-1], (4, 3, 2, 1))
  alone = draw(keys[2:3], (1, 3, 2, 1))
  np.testing.assert_array_equal(together, shuffled[::-1])
  np.testing.assert_array_equal(together[2], alone[0])
  assert len(np.unique(together)) == together.size


@pytest.mark.parametrize(("draw", "name"), DRAWS)
def test_draws_take_a_dtype(key, draw, name, x64):
  del name, x64
  for keys in (key, jax.random.split(key, 2)):
    assert draw(keys, (2, 3), jnp.float64).dtype == jnp.float64
    assert draw(keys, (2, 3)).dtype == jnp.float32
