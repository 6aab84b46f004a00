"""Every peer: pictures, network calls, gradients, keys."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import peers
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import METHODS, Trained, perceptron

#: Methods by name; what an extra brings is skipped where it is not installed.
NAMES = [
  pytest.param(
    name,
    marks=pytest.mark.skipif(
      bool(kind.needs) and importlib.util.find_spec(kind.needs) is None,
      reason=f"{kind.needs} is not installed (pip install '.[peers]')",
    ),
  )
  for name, kind in METHODS.items()
]

SHAPE = (3, 2, 1)
KEY = jax.random.key(0)
X = jax.random.uniform(jax.random.key(1), (16, *SHAPE))
PRIOR = Gaussian(jnp.full(SHAPE, 0.5), jnp.full(SHAPE, 0.05))


def build(name):
  return METHODS[name](SHAPE, (8,))


@functools.cache
def trained(name):
  peer = build(name)
  found = Trained(peer.init(KEY), PRIOR)
  return peer, found._replace(calibration=peer.calibrate(KEY, found, X))


@pytest.fixture
def counted(monkeypatch):
  """Counts network calls as they are made, those within compiled loops, too."""
  count = []

  def counting(inner):
    def call(*inputs, **options):
      jax.debug.callback(lambda: count.append(1))
      return inner(*inputs, **options)

    return call

  monkeypatch.setattr(perceptron, "call", counting(perceptron.call))
  if importlib.util.find_spec("equinox"):
    # The networks of flowjax.
    from equinox.nn import MLP

    monkeypatch.setattr(MLP, "__call__", counting(MLP.__call__))
  return count


@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_makes_the_calls_it_is_given(name, counted):
  peer, found = trained(name)
  # One: where a network is mapped over images, each of them is counted.
  keys = jax.random.split(KEY, 1)
  for sampler in peer.samplers.values():
    sample = jax.jit(sampler)
    for calls in (1, 2, 5, 6):
      counted.clear()
      jax.block_until_ready(sample(found, keys, jnp.asarray(calls)))
      jax.effects_barrier()
      assert len(counted) == peer.calls(calls)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_a_function_of_its_key(name):
  peer, found = trained(name)
  keys = jax.random.split(KEY, 4)
  for sampler in peer.samplers:
    whole = np.asarray(peers.pictures(peer, found, keys, 3, sampler))
    assert whole.shape == (4, *SHAPE)
    assert whole.min() >= 0 and whole.max() <= 1
    assert np.ptp(whole, axis=0).max() > 1e-4
    part = peers.pictures(peer, found, keys[2:], 3, sampler)
    np.testing.assert_allclose(part, whole[2:], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_falls_along_its_gradient(name):
  peer = build(name)
  if not peer.selects:
    pytest.skip("no single loss is minimised")
  parameters = peer.init(KEY)
  value, gradient = jax.jit(jax.value_and_grad(peer.loss, 1))(KEY, parameters, X, PRIOR)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))
  moved = jax.tree.map(lambda p, g: p - 1e-3 * g, parameters, gradient)
  assert peer.loss(KEY, moved, X, PRIOR) < value
