"""Products with inputs in bfloat16: what is rounded, and what is not."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import objectives
from infusion_jax.chain import Infusion
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import MLP, Network
from infusion_jax.networks.products import product

HALF = jnp.bfloat16


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(array):
  """What is left of an array in bfloat16, in double precision."""
  return np.asarray(jnp.asarray(array, HALF), np.float64)


def product_and_gradients(x, kernel, gradient, dtype=HALF):
  y, pull = jax.vjp(lambda x, kernel: product(x, kernel, dtype), x, kernel)
  return y, *pull(gradient)


@pytest.mark.parametrize("sizes", [(6, 48), (6, 35), (7, 33)])
def test_inputs_are_rounded_and_sums_are_not(sizes):
  """Columns, rows or neither can be taken apart for the copy of the transposed."""
  x, kernel, gradient = (
    normal(seed, *shape)
    for seed, shape in enumerate((sizes, (sizes[1], 5), (sizes[0], 5)))
  )
  found = jax.jit(product_and_gradients)(x, kernel, gradient)
  x, kernel, gradient = map(rounded, (x, kernel, gradient))
  exact = x @ kernel, gradient @ kernel.T, x.T @ gradient
  for got, expected in zip(found, exact, strict=True):
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_leading_axes_are_rows():
  x, kernel = normal(0, 2, 3, 8), normal(1, 8, 5)
  gradient = normal(2, 2, 3, 5)
  y, of_x, of_kernel = product_and_gradients(x, kernel, gradient)
  flat = product_and_gradients(x.reshape(6, 8), kernel, gradient.reshape(6, 5))
  np.testing.assert_array_equal(y.reshape(6, 5), flat[0])
  np.testing.assert_array_equal(of_x.reshape(6, 8), flat[1])
  np.testing.assert_array_equal(of_kernel, flat[2])


def test_single_precision_is_the_plain_product():
  x, kernel = normal(0, 6, 8), normal(1, 8, 5)
  np.testing.assert_array_equal(product(x, kernel, jnp.float32), x @ kernel)


def widened(function, *arguments):
  """Whether a compiled program converts anything to float32."""
  text = jax.jit(function).lower(*arguments).compile().as_text()
  return bool(re.search(r"= f32\[[0-9,]*\]\S* convert\(", text))


@pytest.fixture
def processor():
  if widened(lambda x, k: product(x, k, HALF), normal(0, 32, 48), normal(1, 48, 64)):
    pytest.skip("this processor has no products in bfloat16")


def test_the_compiler_keeps_all_three_products_in_bfloat16(processor):
  arguments = normal(0, 32, 48), normal(1, 48, 64), normal(2, 32, 64)
  assert not widened(product_and_gradients, *arguments)


def test_weights_are_rounded_outside_the_chain(processor):
  network, shape = Network(MLP((48,), dtype=HALF), (8, 8, 1), 3), (32, 8, 8, 1)
  parameters, _ = network.init(jax.random.key(0))
  prior = Gaussian(jnp.zeros(shape[1:]), jnp.ones(shape[1:]))
  infusion = Infusion(prior, jnp.full(3, 0.1), 1e-4)

  def gradient(parameters, x):
    key = jax.random.key(0)
    return objectives.denoising(key, network.train, parameters, x, infusion).gradient

  text = jax.jit(gradient).lower(parameters, jnp.zeros(shape)).compile().as_text()
  carried = [line for line in text.splitlines() if " while(" in line]
  for shape in ("64,48", "48,128"):
    assert any(f"bf16[{shape}]" in line for line in carried)
