"""Every peer: pictures, network calls, gradients, keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import peers
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import METHODS, Trained, perceptron

SHAPE = (3, 2, 1)
KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (16, *SHAPE))
PRIOR = Gaussian(jnp.full(SHAPE, 0.5), jnp.full(SHAPE, 0.05))


def build(name):
  return METHODS[name](SHAPE, (8,))


def trained(peer):
  found = Trained(peer.init(KEY), PRIOR)
  return found._replace(calibration=peer.calibrate(KEY, found, X))


@pytest.fixture(scope="module")
def all_trained():
  return {name: (build(name), trained(build(name))) for name in METHODS}


@pytest.fixture
def counted(monkeypatch):
  """Counts network calls as they are made, those within compiled loops, too."""
  count = []
  inner = perceptron.call

  def call(network, parameters, *inputs):
    jax.debug.callback(lambda: count.append(1))
    return inner(network, parameters, *inputs)

  monkeypatch.setattr(perceptron, "call", call)
  return count


@pytest.mark.parametrize("name", METHODS)
def test_a_sampler_makes_the_calls_it_is_given(name, all_trained, counted):
  peer, found = all_trained[name]
  keys = jax.random.split(KEY, 2)
  for sampler in peer.samplers.values():
    sample = jax.jit(sampler)
    for calls in (1, 2, 5, 6):
      counted.clear()
      jax.block_until_ready(sample(found, keys, jnp.asarray(calls)))
      jax.effects_barrier()
      assert len(counted) == peer.calls(calls)


@pytest.mark.parametrize("name", METHODS)
def test_a_picture_is_a_function_of_its_key(name, all_trained):
  peer, found = all_trained[name]
  keys = jax.random.split(KEY, 4)
  for sampler in peer.samplers:
    whole = np.asarray(peers.pictures(peer, found, keys, 3, sampler))
    assert whole.shape == (4, *SHAPE)
    assert whole.min() >= 0 and whole.max() <= 1
    assert np.ptp(whole, axis=0).max() > 1e-4
    part = peers.pictures(peer, found, keys[2:], 3, sampler)
    np.testing.assert_allclose(part, whole[2:], atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_falls_along_its_gradient(name):
  peer = build(name)
  if not peer.selects:
    pytest.skip("no single loss is minimised")
  parameters = peer.init(KEY)
  value, gradient = jax.jit(jax.value_and_grad(peer.loss, 1))(KEY, parameters, X, PRIOR)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))
  moved = jax.tree.map(lambda p, g: p - 1e-3 * g, parameters, gradient)
  assert peer.loss(KEY, moved, X, PRIOR) < value
