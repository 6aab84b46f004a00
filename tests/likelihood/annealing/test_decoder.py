"""Annealing of a decoder that is no chain: linear, Gaussian, log p known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.tree_util import Partial

from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood.annealing import decoder, driver, estimator
from infusion_jax.likelihood.annealing.decoder import Decoder

KEY = jax.random.key(0)
WEIGHTS = np.array([[0.5, 0.1, 0.0, -0.2], [0.0, 0.3, 0.4, 0.1]], np.float32)
VARIANCE = 0.05


def linear(weights, noise):
  mean = (0.3 + noise @ weights).reshape(-1, 2, 2, 1)
  return Gaussian(mean, jnp.full_like(mean, VARIANCE))


MODEL = Decoder(Partial(linear, jnp.asarray(WEIGHTS)), (2,))
SETTINGS = driver.Annealing(num_legs=60, num_chains=300)


def test_the_estimate_is_log_p():
  x = 0.3 + 0.4 * np.asarray(jax.random.normal(KEY, (4, 2, 2, 1)))
  batches = driver.anneal_batches(KEY, MODEL, x, SETTINGS, batch_size=4)
  found = next(batch.estimate for batch in batches if batch.stage.finished)
  covariance = WEIGHTS.T.astype(float) @ WEIGHTS + VARIANCE * np.eye(4)
  gap = x.reshape(4, 4).astype(float) - 0.3
  square = np.einsum("ni,ij,nj->n", gap, np.linalg.inv(covariance), gap)
  log_det = np.linalg.slogdet(covariance)[1]
  exact = -0.5 * (square + log_det + 4 * math.log(2 * math.pi))
  np.testing.assert_allclose(found, exact, atol=0.1)


def test_the_sandwich_closes_around_it():
  found = driver.evaluate_sandwich(KEY, MODEL, SETTINGS, num_images=16)
  assert abs(found.gap.mean) < 0.3


WIDE = 4096


def wide(step, z):
  """A transition that keeps WIDE numbers an image for its gradient."""
  weights = jnp.sin(jnp.arange(4 * WIDE, dtype=jnp.float32)).reshape(4, WIDE)
  hidden = jnp.tanh(z.reshape(len(z), 4) @ weights)
  mean = step.slope * z + (hidden @ weights.T).reshape(z.shape) / WIDE
  return Gaussian(mean, jnp.broadcast_to(step.variance, z.shape)), None


@pytest.fixture(scope="module")
def chain_and_noise():
  toy = toys.linear_gaussian(num_steps=6, shape=(2, 2, 1))
  markov = toy.markov(transition=Partial(wide))
  return markov, jax.random.normal(KEY, (32, 6, 2, 2, 1))


def test_the_bytes_that_a_gradient_keeps_are_counted(chain_and_noise):
  markov, noise = chain_and_noise
  # tanh's own output, by all images and steps.
  wide_ones = 32 * 6 * WIDE * 4
  assert wide_ones <= decoder.bytes_kept(markov, noise) < 2.2 * wide_ones
  assert decoder.bytes_kept(markov, noise[:8]) < wide_ones


def test_what_is_computed_again_is_the_same_in_less_memory(
  chain_and_noise, monkeypatch
):
  markov, noise = chain_and_noise
  x = jnp.full((32, 2, 2, 1), 0.4)

  def compiled(most):
    monkeypatch.setattr(decoder, "KEPT_BYTES", most)
    function = jax.jit(lambda noise: estimator.evaluator(markov, x)(noise))
    return function.lower(noise).compile()

  kept, again = compiled(2**30), compiled(0)
  for one, other in zip(kept(noise), again(noise), strict=True):
    np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)
  bytes_of = [program.memory_analysis().temp_size_in_bytes for program in (kept, again)]
  assert bytes_of[1] < bytes_of[0] / 3
