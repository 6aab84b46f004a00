"""Bits: densities against enumeration, draws against probabilities, whole chains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import random
from infusion_jax.chain import Infusion, MarkovChain, generate
from infusion_jax.likelihood import importance
from infusion_jax.states import bernoulli
from infusion_jax.states.bernoulli import Bernoulli

LOGITS = np.array([[[-1.0, 0.5], [2.0, -0.3]]], np.float32)  # [1, 2, 2]
P = Bernoulli(jnp.asarray(LOGITS))


def all_bits(shape):
  """Every image of bits, [2^D, *shape]."""
  rows = itertools.product([0.0, 1.0], repeat=int(np.prod(shape)))
  return np.array(list(rows), np.float32).reshape(-1, *shape)


def probability(logits, bits):
  ones = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
  return np.where(bits > 0.5, ones, 1 - ones)


def test_densities_are_probabilities_of_bits():
  bits = all_bits(LOGITS.shape)
  found = np.exp(P.log_density(jnp.asarray(bits)))
  np.testing.assert_allclose(found, probability(LOGITS, bits), rtol=1e-5)
  np.testing.assert_allclose(found.prod((1, 2, 3)).sum(), 1.0, rtol=1e-5)
  far = Bernoulli(jnp.array([200.0, -200.0])).log_density(jnp.array([0.0, 1.0]))
  np.testing.assert_allclose(far, [-200.0, -200.0])


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_mixture_is_that_of_pixels(rate):
  """Two channels share one mask."""
  bits, target = all_bits((1, 1, 2)), jnp.array([[[1.0, 0.0]]])
  p = Bernoulli(jnp.asarray(LOGITS[:, :1]))
  found = p.mixture_log_density(jnp.asarray(bits), target, rate, 1e-4)
  plain = probability(LOGITS[:, :1], bits).prod(-1)
  same = (bits == np.asarray(target)).all(-1)
  expected = (1 - rate) * plain + rate * same
  np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_gradients_of_the_mixture_are_finite(rate):
  target = jnp.zeros((1, 2, 2))

  def total(logits, rate):
    values = Bernoulli(logits).mixture_log_density(target, target, rate, 1e-4)
    return values.sum()

  for gradient in jax.grad(total, argnums=(0, 1))(P.logits, rate):
    assert np.isfinite(gradient).all()


def test_draws_have_their_probabilities(key):
  p = Bernoulli(jnp.broadcast_to(P.logits, (20_000, *LOGITS.shape)))
  drawn = p.draw(key)
  assert set(np.unique(drawn).tolist()) == {0.0, 1.0}
  np.testing.assert_allclose(drawn.mean(0), P.mean, atol=0.015)
  np.testing.assert_allclose(drawn.var(0), P.variance, atol=0.015)
  target = jnp.ones_like(p.logits)
  value, mask = p.mixture_draw(key, target, 0.25, 1e-4)
  np.testing.assert_allclose(mask.mean(), 0.25, atol=0.015)
  np.testing.assert_allclose(value.mean(0), 0.25 + 0.75 * P.mean, atol=0.015)
  assert (np.asarray(value)[np.asarray(mask)[..., 0]] == 1.0).all()
  for rate, taken in ((0.0, False), (1.0, True)):
    assert (p.mixture_draw(key, target, rate, 1e-4).mask == taken).all()


def test_a_key_for_each_image_draws_image_by_image(key):
  p = Bernoulli(jnp.broadcast_to(P.logits, (3, *LOGITS.shape)))
  keys = jax.random.split(key, 3)
  alone = Bernoulli(p.logits[1:])
  np.testing.assert_array_equal(p.draw(keys)[1], alone.draw(keys[1:])[0])


def test_guidance_multiplies_powers_of_the_two():
  other = Bernoulli(-0.5 * P.logits + 0.2)
  for w in (0.0, 0.4, 1.0, 2.5):
    powers = [
      probability(P.logits, bit) ** (1 - w) * probability(other.logits, bit) ** w
      for bit in (0.0, 1.0)
    ]
    found = P.toward(other, jnp.float32(w)).mean
    np.testing.assert_allclose(found, powers[1] / sum(powers), rtol=1e-4)


def test_the_prior_is_the_share_of_ones():
  images = np.array([[0, 1], [0, 1], [1, 1], [0, 1]], np.uint8).reshape(4, 1, 2, 1)
  found = bernoulli.fit(images, 0.01)
  np.testing.assert_allclose(found.mean.ravel(), [0.25, 0.99], rtol=1e-5)


# A chain over 3 bits, T = 2: [1, 3, 1].
SHAPE = (1, 3, 1)
WEIGHTS = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
PRIOR = Bernoulli(jnp.array([0.3, -0.7, 0.1]).reshape(SHAPE))


def transition(weights, z):
  logits = (2 * z.reshape(-1, 3) - 1) @ weights
  return Bernoulli(logits.reshape(-1, *SHAPE)), None


def markov(rates):
  return MarkovChain(
    transition, jnp.asarray(WEIGHTS), Infusion(PRIOR, jnp.asarray(rates), 1e-4)
  )


def exact():
  """p(x) of all 8 images, by sums over all states."""
  states = all_bits(SHAPE)
  now = probability(PRIOR.logits, states).prod((1, 2, 3))
  for weights in WEIGHTS:
    logits = np.asarray(transition(weights, jnp.asarray(states))[0].logits)
    now = now @ probability(logits[:, None], states).prod((2, 3, 4))
  return states, now


def test_weights_of_infusion_chains_average_to_the_likelihood(key):
  states, p = exact()
  keys = importance.image_keys(key, np.arange(8))
  found = importance.estimate(
    keys, markov([0.1, 0.2]), jnp.asarray(states), num_chains=16_000, chunk_size=2000
  )
  np.testing.assert_allclose(found.importance, np.log(p), atol=0.03)
  assert (found.bound < np.log(p)).all()


def test_samples_have_the_exact_probabilities(key):
  _, p = exact()
  prediction = generate(key, markov([0.0, 0.0]), 20_000).prediction
  drawn = np.asarray(prediction.draw(random.named(key, "last"))).reshape(-1, 3)
  numbers = drawn @ [4, 2, 1]
  found = np.bincount(numbers.astype(int), minlength=8) / len(drawn)
  np.testing.assert_allclose(found, p, atol=0.015)
