"""Densities in single precision where it is at its end: small, far out, nearly sure."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from toys import log_mixture

from infusion_jax import gaussian
from infusion_jax.gaussian import Gaussian

#: From the smallest variance a configuration allows to the prior's.
_VARIANCES = st.sampled_from([1e-12, 1e-8, 1e-5, 1e-4, 1e-2, 1.0, 1e6])
_PLACES = st.one_of(
  st.sampled_from([0.0, 1.0, -1e6, 1e6, 1e-30, -1e-30]),
  st.floats(-1e3, 1e3, width=32),
)
_RATES = st.one_of(
  # The smallest normal number, its neighbours, and the last one below 1.
  st.sampled_from([0.0, 1.0, 1e-45, 1.1754944e-38, 1e-30, 1 - 2**-24, 0.5]),
  st.floats(0.0, 1.0, width=32),
)


def _pixel(value: float) -> jax.Array:
  return jnp.full((1, 1, 1), value, jnp.float32)


@jax.jit
def _value_and_gradients(z, mean, variance, target, rate, target_variance):
  def density(z, mean, variance, target, rate):
    p = Gaussian(mean, variance)
    return gaussian.mixture_log_density(z, p, target, rate, target_variance).sum()

  return jax.value_and_grad(density, argnums=tuple(range(5)))(
    z, mean, variance, target, rate
  )


@hypothesis.given(_PLACES, _PLACES, _VARIANCES, _PLACES, _RATES, _VARIANCES)
@hypothesis.settings(max_examples=600)
def test_the_mixture_and_its_gradients_stay_finite_and_right(
  z, mean, variance, target, rate, target_variance
):
  inputs = [_pixel(v) for v in (z, mean, variance, target)]
  rate, target_variance = jnp.float32(rate), jnp.float32(target_variance)
  value, gradients = _value_and_gradients(*inputs, rate, target_variance)
  assert np.isfinite(value)
  for gradient in gradients:
    assert np.isfinite(gradient).all()
  # In double precision, from the very numbers that single precision knows.
  z, mean, variance, target = (np.asarray(v, np.float64) for v in inputs)
  # XLA's CPU code takes numbers below the smallest normal one for 0.
  known = 0.0 if rate < np.finfo(np.float32).tiny else float(rate)
  exact = log_mixture(z, Gaussian(mean, variance), target, known, target_variance)
  np.testing.assert_allclose(value, exact.sum(), rtol=2e-5, atol=2e-5)


@hypothesis.given(_PLACES, _PLACES, _VARIANCES)
@hypothesis.settings(max_examples=300)
def test_the_log_density_and_its_gradients_stay_finite(x, mean, variance):
  def density(x, mean, variance):
    return gaussian.log_density(x, Gaussian(mean, variance)).sum()

  inputs = (_pixel(x), _pixel(mean), _pixel(variance))
  value, gradients = jax.value_and_grad(density, argnums=(0, 1, 2))(*inputs)
  assert np.isfinite(value)
  for gradient in gradients:
    assert np.isfinite(gradient).all()


@hypothesis.given(_RATES, _VARIANCES, _PLACES, st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=100)
def test_draws_at_the_extremes_are_finite(rate, variance, target, seed):
  p = Gaussian(jnp.zeros((2, 2, 3)), jnp.full((2, 2, 3), variance))
  draw = gaussian.mixture_sample(
    jax.random.key(seed), p, jnp.full((2, 2, 3), target), jnp.float32(rate), 1e-12
  )
  assert np.isfinite(draw.value).all()
  if rate in (0.0, 1.0):
    assert (np.asarray(draw.mask) == bool(rate)).all()
