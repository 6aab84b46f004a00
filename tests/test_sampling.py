"""Sampling against a plain loop over time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import chain, gaussian, random, sampling
from infusion_jax.chain import Infusion, Parameters
from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import build
from infusion_jax.sampling import Weights, markov_chain

SHAPE = (3, 2, 1)
T = 3
B = 4


@pytest.fixture(scope="module")
def network():
  return build(ModelConfig(hidden_sizes=(5,)), ChainConfig(num_steps=T), SHAPE)


@pytest.fixture(scope="module")
def weights(network):
  """Random weights that differ from step to step."""
  generator = np.random.default_rng(1)

  def like(tree, low, high):
    return jax.tree.map(
      lambda leaf: jnp.asarray(generator.uniform(low, high, leaf.shape), jnp.float32),
      tree,
    )

  parameters, statistics = jax.eval_shape(network.init, jax.random.key(1))
  parameters, statistics = like(parameters, -1.0, 1.0), like(statistics, 0.2, 2.0)
  prior = Gaussian(jnp.full(SHAPE, 0.4), jnp.full(SHAPE, 0.1))
  infusion = Infusion(prior, jnp.array([0.0, 0.3, 1.0]), 1e-6)
  return Weights(Parameters(*parameters), statistics, infusion)


@pytest.fixture(scope="module")
def keys():
  return jax.random.split(jax.random.key(3), B)


def images():
  return jnp.asarray(np.random.default_rng(0).uniform(0, 1, (B, *SHAPE)), jnp.float32)


def by_hand(network, weights, keys, known=None, image=None):
  """States and distributions of chains of T + 2 steps, step by step.

  A shorter chain is the beginning of a longer one.
  """
  p = chain.repeat_for_batch(weights.infusion.prior, B)
  step_keys = random.steps(keys, T + 2)
  steps = network.steps(weights.parameters.per_step, weights.statistics)
  states, after = [], []
  for t in range(T + 2):
    z = gaussian.sample(step_keys[t], p)
    if known is not None:
      z = jnp.where(known, image, z)
    # Step T is repeated, batch norm and all.
    last = min(t, T - 1)
    row = jax.tree.map(lambda leaf, index=last: leaf[index], steps)
    p, _ = network.fixed(weights.parameters.shared, row, z)
    states.append(z)
    after.append(p)
  return np.stack(states), Gaussian(
    *(np.stack(leaf) for leaf in zip(*after, strict=True))
  )


@pytest.fixture(scope="module")
def loop(network, weights, keys):
  return by_hand(network, weights, keys)


@pytest.mark.parametrize("num_steps", [1, T, T + 2])
def test_chains_follow_the_loop(network, weights, keys, loop, num_steps):
  states, after = loop
  found = sampling.chains(markov_chain(network, weights, num_steps), keys)
  np.testing.assert_allclose(found.states, states[:num_steps], atol=1e-6)
  np.testing.assert_allclose(found.means, after.mean[:num_steps], atol=1e-6)
  np.testing.assert_allclose(found.variances, after.variance[:num_steps], atol=1e-6)
  assert found.mask is None
  assert np.std(found.means) > 0.01


def test_the_prediction_is_the_last_distribution(network, weights, keys, loop):
  prediction = sampling.predict(markov_chain(network, weights, T), keys)
  np.testing.assert_allclose(prediction.mean, loop[1].mean[T - 1], atol=1e-6)
  np.testing.assert_allclose(prediction.variance, loop[1].variance[T - 1], atol=1e-6)


def test_a_draw_has_the_prediction_s_mean_and_variance(network, weights):
  keys = jax.random.split(jax.random.key(5), 4000)
  p = Gaussian(jnp.full((4000, 1, 1, 1), 0.3), jnp.full((4000, 1, 1, 1), 0.04))
  drawn = np.asarray(sampling.draw(keys, p))
  assert abs(drawn.mean() - 0.3) < 5 * 0.2 / np.sqrt(4000)
  assert abs(drawn.std() - 0.2) < 0.02
  again = sampling.draw(keys[7:9], jax.tree.map(lambda leaf: leaf[7:9], p))
  np.testing.assert_array_equal(drawn[7:9], again)


def test_the_last_draw_uses_no_stream_of_the_chain(keys):
  last = jax.random.key_data(random.named(keys, "last"))
  steps = jax.random.key_data(random.steps(keys, 50))
  assert not (steps == last).all(-1).any()


def test_infusion_chains_take_in_the_target(network, weights, keys):
  x = images()
  found = sampling.infusion_chains(markov_chain(network, weights, T), keys, x)
  assert found.states.shape == (T, B, *SHAPE)
  assert found.mask.shape == (T, B, *SHAPE[:2], 1)
  # Rates 0 and 1 leave no choice; the target's own variance is 1e-6.
  assert not found.mask[0].any()
  assert found.mask[2].all()
  np.testing.assert_allclose(found.states[2], x, atol=0.01)
  taken = np.broadcast_to(found.mask[1], x.shape)
  np.testing.assert_allclose(found.states[1][taken], x[taken], atol=0.01)


def test_longer_infusion_chains_keep_the_last_rate(network, weights, keys):
  x = images()
  found = sampling.infusion_chains(markov_chain(network, weights, T + 2), keys, x)
  assert found.mask[2:].all()
  np.testing.assert_allclose(found.states[-1], x, atol=0.01)


def test_inpainting_follows_the_clamped_loop(network, weights, keys):
  x = images()
  known = jnp.zeros((B, 3, 2, 1), bool).at[:, :1].set(True)
  states, after = by_hand(network, weights, keys, known, x)
  found = sampling.inpaint(markov_chain(network, weights, T + 2), keys, x, known)
  np.testing.assert_array_equal(found[:, :1], x[:, :1])
  np.testing.assert_allclose(found[:, 1:], after.mean[-1][:, 1:], atol=1e-6)
  chains = sampling.clamped_chains(markov_chain(network, weights, T), keys, x, known)
  np.testing.assert_allclose(chains.states, states[:T], atol=1e-6)
  np.testing.assert_allclose(chains.means, after.mean[:T], atol=1e-6)


def test_what_is_unknown_has_no_influence(network, weights, keys):
  x = images()
  known = jnp.zeros((B, 3, 2, 1), bool).at[:, :1].set(True)
  other = jnp.where(known, x, 0.123)
  first = sampling.inpaint(markov_chain(network, weights, T), keys, x, known)
  np.testing.assert_array_equal(
    first,
    sampling.inpaint(markov_chain(network, weights, T), keys, other, known),
  )
  # What is known has.
  changed = sampling.inpaint(markov_chain(network, weights, T), keys, 1 - x, known)
  assert np.abs(changed[:, 1:] - first[:, 1:]).max() > 1e-3


def test_means_of_many_chains_do_not_depend_on_the_batch(network, weights, keys):
  parts = list(
    sampling.means(markov_chain(network, weights, T), keys, batch_size=len(keys) - 1)
  )
  assert [len(part) for part in parts] == [len(keys) - 1, 1]
  together = sampling.predict(markov_chain(network, weights, T), keys).mean
  np.testing.assert_allclose(np.concatenate(parts), together, rtol=1e-5, atol=1e-6)
