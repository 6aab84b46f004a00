"""The normalizing flow: a density that integrates to one, and is that of its draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import scipy.stats

import infusion_jax
from infusion_jax import random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import NormalizingFlow, Trained, pictures
from infusion_jax.training import loop

pytest.importorskip("flowjax", reason="pip install '.[peers]'")

KEY = jax.random.key(0)


def made(shape, scale=0.6, hidden_sizes=(8,)):
  """A flow with the weights it begins with, times a factor."""
  peer = NormalizingFlow(shape, hidden_sizes)
  return peer, jax.tree.map(lambda w: scale * w, peer.init(KEY))


def test_the_density_of_two_pixels_integrates_to_one():
  """Over all that a draw can be: 1/18 beyond 0 and 1."""
  peer, parameters = made((2, 1, 1))
  count = 400
  places = (np.arange(count) + 0.5) / count * 10 / 9 - 1 / 18
  x = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2, 1, 1)
  p = np.exp(np.asarray(jax.jit(peer.log_density)(parameters, x), np.float64))
  assert p.max() > 2 * p.min()
  np.testing.assert_allclose(p.mean() * (10 / 9) ** 2, 1.0, atol=2e-3)


def test_the_density_is_that_of_the_noise_over_the_volume_of_the_decoder():
  peer, parameters = made((3, 1, 1))
  noise = jax.random.normal(KEY, (5, 3))
  decode = lambda one: peer.decode(parameters, one[None]).ravel()  # noqa: E731
  slopes = jax.vmap(jax.jacfwd(decode))(noise)
  base = scipy.stats.norm.logpdf(noise).sum(1)
  expected = base - np.log(np.abs(np.linalg.det(slopes)))
  found = peer.log_density(parameters, peer.decode(parameters, noise))
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_constant_networks_make_pixels_whose_logits_are_gaussian():
  """With weights of zero each coupling is one affine map, whatever it sees."""
  peer, parameters = made((3, 1, 1))
  parameters = jax.tree.map(lambda w: w if w.ndim == 2 else 0 * w, parameters)
  noise = jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3)])
  share = 0.05 + 0.9 * np.asarray(peer.decode(parameters, noise)).reshape(4, 3)
  logits = np.log(share / (1 - share))
  mean, matrix = logits[0], (logits[1:] - logits[0]).T
  x = np.array([0.1, 0.5, 0.8])
  share = 0.05 + 0.9 * x
  normal = scipy.stats.multivariate_normal(mean, matrix @ matrix.T)
  slope = np.log(0.9 / (share * (1 - share))).sum()
  expected = normal.logpdf(np.log(share / (1 - share))) + slope
  found = peer.log_density(parameters, x.reshape(1, 3, 1, 1))
  np.testing.assert_allclose(found, expected, atol=1e-4)
  # Every pixel has a scale of its own.
  assert np.diff(np.sort(np.abs(matrix).max(1))).min() > 0.1


def test_training_raises_the_likelihood_in_the_loop_of_all(tmp_path):
  """Noise of 17 levels has 0 nats an image; less than that is what is learned here."""
  config = runs.config(method="normalizing_flow", num_epochs=4, learning_rate=1e-2)
  loop.fit(config, runs.dataset(), tmp_path, progress=False)
  model = infusion_jax.load(tmp_path)
  peer, learned = model.network.peer, Trained.of(model.weights)
  x = random.uniform(KEY, (64, 4, 4, 1))
  before = peer.log_density(peer.init(KEY), x).mean()
  after = peer.likelihoods["exact"](KEY, learned, x).mean()
  assert before + 2 < after < 0.5
  again = pictures(peer, learned, jax.random.split(KEY, 3), 15)
  np.testing.assert_array_equal(
    again, pictures(peer, learned, jax.random.split(KEY, 3), 1)
  )


def test_a_wide_range_of_pixels_keeps_values_and_gradients_finite():
  peer, parameters = made((2, 1, 1))
  prior = Gaussian(jnp.zeros(()), jnp.ones(()))
  x = jnp.asarray([0.0, 1.0]).reshape(1, 2, 1, 1)
  value, gradient = jax.value_and_grad(peer.loss, 1)(KEY, parameters, x, prior)
  assert math.isfinite(value)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
