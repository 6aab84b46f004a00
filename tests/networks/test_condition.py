"""Labels in the networks: tables of zeros change nothing, rows act row by row."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax.chain import Step
from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import build

pytestmark = pytest.mark.usefixtures("quick_compile")

CHAIN = ChainConfig(num_steps=2)
NETWORKS = {
  "mlp": {"hidden_sizes": (6, 5)},
  "conv": {"channels": (6, 4), "encoder": "conv", "kernel_size": 3},
  "unet": {"channels": (8, 4), "groups": 2},
}


def made(name, num_classes, key):
  """A network, its parameters and one step with fixed statistics."""
  model = ModelConfig(name=name, num_classes=num_classes, **NETWORKS[name])
  network = build(model, CHAIN, (4, 4, 1))
  parameters, statistics = network.init(key)
  row = jax.tree.map(lambda leaf: leaf[0], (parameters.per_step, statistics))
  return network, parameters.shared, Step(row[0], jnp.int32(0), row[1])


def is_table(path):
  return "LabelTable" in jax.tree_util.keystr(path)


@pytest.fixture(params=NETWORKS, scope="module")
def both(request):
  """The network without classes and the one with three, of the same weights."""
  key = jax.random.key(0)
  return made(request.param, 0, key), made(request.param, 3, key)


@functools.partial(jax.jit, static_argnums=0)
def fixed(network, shared, step, z, label=None):
  """Compiled: one program, where each operation of a network would be its own."""
  return network.fixed(shared, step, z, label)[0]


def test_a_fresh_network_does_not_heed_its_label(both, key):
  plain, (network, shared, step) = both
  tables = jax.tree_util.tree_leaves_with_path(shared)
  tables = [leaf for path, leaf in tables if is_table(path)]
  assert tables and all(leaf.shape[0] == 4 and not leaf.any() for leaf in tables)
  z = jax.random.uniform(key, (5, 4, 4, 1))
  expected = fixed(*plain, z)
  for label in (None, 2, jnp.arange(5) % 3):
    found = fixed(network, shared, step, z, label)
    for leaf, other in zip(found, expected, strict=True):
      np.testing.assert_array_equal(leaf, other)


def test_each_image_has_its_own_label(both, key):
  _, (network, shared, step) = both

  def filled(path, leaf):
    return jax.random.normal(key, leaf.shape) if is_table(path) else leaf

  shared = jax.tree_util.tree_map_with_path(filled, shared)
  if "unet" in type(network.module).__name__.lower():
    # Its last convolutions start at 0, and hide what is before them.
    shared = jax.tree.map(lambda leaf: leaf + 0.1, shared)
  z = jnp.repeat(jax.random.uniform(key, (1, 4, 4, 1)), 4, axis=0)
  labels = jnp.array([0, 1, 1, 3])
  rows = fixed(network, shared, step, z, labels).mean
  np.testing.assert_allclose(rows[1], rows[2], rtol=1e-6)
  assert abs(rows[0] - rows[1]).max() > 1e-3
  # Several chains of an image stand in a row.
  many = fixed(network, shared, step, jnp.repeat(z, 3, axis=0), labels).mean
  np.testing.assert_allclose(many, jnp.repeat(rows, 3, axis=0), rtol=1e-5)
  for row, label in ((rows[3], None), (rows[0], 0)):
    alone = fixed(network, shared, step, z, label).mean[0]
    np.testing.assert_allclose(row, alone, rtol=1e-5)
  once, _ = jax.jit(network.guided)(shared, step, z, labels, 1.0)
  np.testing.assert_array_equal(once.mean, rows)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_image_is_seen_in_its_own_row(name, key):
  model = ModelConfig(name=name, condition="superres2", **NETWORKS[name])
  network = build(model, CHAIN, (4, 4, 1))
  parameters, statistics = network.init(key)
  # The last convolutions of a fresh U-Net are 0, and hide what is before them.
  shared = jax.tree.map(lambda leaf: leaf + 0.1, parameters.shared)
  row = jax.tree.map(lambda leaf: leaf[0], (parameters.per_step, statistics))
  step = Step(row[0], jnp.int32(0), row[1])

  @jax.jit
  def mean(z, seen):
    return network.fixed(shared, step, z, seen=seen)[0].mean

  # Two chains of each of three images stand in a row.
  z = jnp.repeat(jax.random.uniform(key, (1, 4, 4, 1)), 6, axis=0)
  seen = jax.random.uniform(key, (3, 4, 4, 2)).at[1].set(0.0)
  found, nothing = mean(z, seen), mean(z, None)
  np.testing.assert_allclose(found[2:4], nothing[2:4], rtol=1e-5)
  np.testing.assert_allclose(found[::2], found[1::2], rtol=1e-5)
  assert abs(found[0] - found[4]).max() > 1e-4


FREE = Gaussian(jnp.array([0.2, 0.9]), jnp.array([0.1, 0.01]))
GIVEN = Gaussian(jnp.array([0.5, 0.3]), jnp.array([0.02, 0.05]))


@pytest.mark.parametrize(("guidance", "expected"), [(0.0, FREE), (1.0, GIVEN)])
def test_guidance_ends_at_both_predictions(guidance, expected):
  found = FREE.toward(GIVEN, jnp.float32(guidance))
  for leaf, other in zip(found, expected, strict=True):
    np.testing.assert_array_equal(leaf, other)


def test_guidance_goes_beyond_and_stays_in_range():
  found = FREE.toward(GIVEN, jnp.float32(2.0))
  np.testing.assert_allclose(found.mean, [0.8, 0.0], atol=1e-6)
  np.testing.assert_array_equal(found.variance, GIVEN.variance)
  half = FREE.toward(GIVEN, jnp.float32(0.5))
  np.testing.assert_allclose(half.variance, [0.06, 0.03], rtol=1e-6)
