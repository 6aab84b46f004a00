"""Losses against plain loops and separate gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import gaussian
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import (
  GAN,
  GSN,
  DenoisingAutoencoder,
  Reflow,
  gan,
  gmmn,
  perceptron,
)
from infusion_jax.peers.denoising_autoencoder import salted

SHAPE = (3, 2, 1)
KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (8, *SHAPE))
PRIOR = Gaussian(jnp.full(SHAPE, 0.5), jnp.full(SHAPE, 0.05))


def test_the_moment_discrepancy_is_that_of_a_plain_loop():
  generator = np.random.default_rng(0)
  first, second = 9 * generator.normal(size=(5, 3)), generator.normal(size=(7, 3))

  def mean(a, b):
    values = [
      sum(np.exp(-np.square(p - q).sum() / (2 * w * w)) for w in (2, 5, 10, 20, 40, 80))
      for p in a
      for q in b
    ]
    return np.mean(values)

  squared = mean(first, first) + mean(second, second) - 2 * mean(first, second)
  np.testing.assert_allclose(gmmn.root_mmd(first, second), np.sqrt(squared), rtol=1e-4)


def gan_moved(peer, parameters, by=0.05):
  """The parameters after one step of gradient descent."""
  gradient = jax.jit(jax.grad(peer.loss, 1))(KEY, parameters, X, PRIOR)
  return jax.tree.map(lambda p, g: p - by * g, parameters, gradient)


def gan_logit(discriminator, x):
  """What a discriminator of eight hidden units says of images."""
  network = perceptron.Perceptron((8,), 1)
  return perceptron.call(network, discriminator, x.reshape(len(x), -1) - 0.5)


def test_each_network_of_the_gan_follows_its_own_loss(monkeypatch):
  """A generator's step fools more, a discriminator's step is fooled less."""
  # The penalty on slopes, by itself, brings both kinds of images together.
  monkeypatch.setattr(gan, "_PENALTY", 0.0)
  peer = GAN(SHAPE, (8,))
  parameters = peer.init(KEY)
  moved = gan_moved(peer, parameters)
  noise = jax.random.normal(jax.random.key(2), (200, peer.noise_size))

  def margin(decoder, discriminator):
    fake = peer.decode({"decoder": decoder}, noise)
    logits = [gan_logit(discriminator, x).mean() for x in (fake, X)]
    return logits[0], logits[1] - logits[0]

  fooled, gap = margin(parameters["decoder"], parameters["discriminator"])
  assert margin(moved["decoder"], parameters["discriminator"])[0] > fooled
  assert margin(parameters["decoder"], moved["discriminator"])[1] > gap


def test_the_penalty_flattens_the_gans_discriminator(monkeypatch):
  def slope(discriminator):
    gradient = jax.grad(lambda x: gan_logit(discriminator, x).sum())(X)
    return float(np.square(gradient).sum((1, 2, 3)).mean())

  peer, slopes = GAN(SHAPE, (8,)), {}
  parameters = peer.init(KEY)
  for weight in (0.0, gan._PENALTY):
    monkeypatch.setattr(gan, "_PENALTY", weight)
    slopes[weight] = slope(gan_moved(peer, parameters)["discriminator"])
  plain, held = slopes.values()
  assert held < 0.9 * plain and held < slope(parameters["discriminator"])


def test_reflow_leaves_its_teacher_alone_and_pairs_noise_with_its_pictures():
  peer = Reflow(SHAPE, (8,))
  parameters = peer.init(KEY)
  gradient = jax.jit(jax.grad(peer.loss, 1))(KEY, parameters, X, PRIOR)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["teacher"]))
  assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["student"]))
  # The images of the data set do not matter, only how many they are.
  loss = jax.jit(peer.loss)
  np.testing.assert_array_equal(
    loss(KEY, parameters, X, PRIOR), loss(KEY, parameters, 0 * X, PRIOR)
  )


def test_salt_and_pepper_fall_on_two_fifths_of_the_pixels():
  x = jnp.full((50, 20, 20, 1), 0.25)
  values = np.asarray(salted(KEY, x))
  assert set(np.unique(values)) == {0.0, 0.25, 1.0}
  np.testing.assert_allclose((values != 0.25).mean(), 0.4, atol=0.01)
  np.testing.assert_allclose((values == 1.0).mean(), 0.2, atol=0.01)


def test_the_denoising_autoencoder_sees_corrupted_images_alone():
  """Where the corruption hides all of an image, the reconstruction cannot tell it."""
  peer = DenoisingAutoencoder(SHAPE, (8,))
  parameters = peer.init(KEY)
  found = peer.reconstruct(KEY, parameters, X).mean
  hidden = salted(jax.random.fold_in(KEY, 0), X) != X
  other = jnp.where(hidden, 1 - X, X)
  np.testing.assert_array_equal(peer.reconstruct(KEY, parameters, other).mean, found)


def test_later_steps_of_a_walkback_count_half_as_much_as_the_step_before(monkeypatch):
  """Where step k costs 10^k, the loss is (4 + 2 * 10 + 100) / 7."""
  costs = iter([1.0, 10.0, 100.0])
  log_density = lambda x, p: jnp.full(x.shape, -next(costs))  # noqa: E731
  monkeypatch.setattr(gaussian, "log_density", log_density)
  peer = GSN(SHAPE, (8,))
  found = peer.loss(KEY, peer.init(KEY), X, PRIOR)
  np.testing.assert_allclose(found, 124 / 7, rtol=1e-6)
