"""Sums: values, gradients, and what XLA makes of them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import gaussian
from infusion_jax.gaussian import Gaussian


def test_per_image_sums_all_but_the_batch():
  values = jnp.arange(24.0).reshape(2, 2, 3, 2)
  np.testing.assert_array_equal(gaussian.per_image(values), [66, 210])
  np.testing.assert_array_equal(gaussian.per_image(values[..., 0]), [30, 102])


@pytest.mark.parametrize("axis", [None, 0, -1, (1, 2)])
def test_a_sum_is_that_of_numpy(axis):
  values = np.random.default_rng(0).normal(size=(4, 3, 5))
  np.testing.assert_allclose(
    gaussian.total(jnp.asarray(values), axis), values.sum(axis), rtol=1e-5, atol=1e-6
  )


def test_what_is_not_finite_stays_what_it_is():
  values = jnp.asarray([1.0, jnp.inf, -jnp.inf, jnp.nan])
  np.testing.assert_array_equal(jax.jit(gaussian.shielded)(values), values)
  assert np.isnan(gaussian.total(values))
  assert gaussian.total(values[:2]) == jnp.inf


def test_a_shield_has_the_gradient_of_the_identity():
  values = jnp.asarray([-1.0, 0.0, 1e30])
  gradient = jax.grad(lambda v: gaussian.total(jnp.square(v)))(values)
  np.testing.assert_array_equal(gradient, 2 * values)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
def test_no_logarithm_is_computed_by_the_library_that_sums():
  x = jnp.ones((128, 28, 28, 1))

  def density(add):
    return jax.jit(lambda x, p: add(gaussian.log_density(x, p)))

  p = Gaussian(x / 2, x / 3)
  shielded = _elementwise_in_libraries(density(gaussian.per_image), x, p)
  assert "log" not in shielded
  if "log" not in _elementwise_in_libraries(density(jnp.sum), x, p):
    pytest.skip("this version of XLA keeps logarithms out of sums by itself")


def _elementwise_in_libraries(function, *arguments) -> set[str]:
  """Names of the operations inside fusions that XLA hands to a library."""
  text = function.lower(*arguments).compile().as_text()
  named = re.findall(r"kind=kCustom, calls=(%\S+?),", text)
  bodies = [text.split(f"\n{name} ", 1)[1].split("\n}", 1)[0] for name in named]
  return set(re.findall(r" (\w+)\(", "\n".join(bodies)))
