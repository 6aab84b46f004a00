"""Annealing of a decoder that is no chain: linear, Gaussian, log p known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood.annealing import driver
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
