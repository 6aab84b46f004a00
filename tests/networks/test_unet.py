"""The time-conditioned U-Net: no parameters of a step's own, no statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infusion_jax
from infusion_jax import chain, objectives
from infusion_jax.chain import Infusion, Step
from infusion_jax.config import ChainConfig, Config, ModelConfig
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.networks import Network, UNet, build
from infusion_jax.networks.unet import waves
from infusion_jax.training import loop

pytestmark = pytest.mark.usefixtures("quick_compile")

T, SHAPE, B = 3, (4, 8, 3), 3
NETWORK = Network(UNet(channels=(16, 8)), SHAPE, T)
#: One size of feature maps: compiled in a fraction of the time.
SHALLOW = Network(UNet(channels=(8,)), SHAPE, T)


@functools.cache
def parameters(network=NETWORK):
  """Parameters without the zeros that make a fresh block its shortcut.

  Filled in numpy, as compiling the initializers takes longer than all tests.
  """
  rng = np.random.default_rng(1)
  shapes, statistics = jax.eval_shape(network.init, jax.random.key(0))

  def fill(path, leaf):
    one = "scale" in jax.tree_util.keystr(path)
    return jnp.asarray(one + 0.2 * rng.normal(size=leaf.shape), leaf.dtype)

  return jax.tree.map_with_path(fill, shapes), statistics


def states(batch=B):
  rng = np.random.default_rng(2)
  return jnp.asarray(rng.uniform(size=(batch, *SHAPE)), jnp.float32)


@jax.jit
def apply(shared, index, z):
  return NETWORK.train(shared, Step({}, index), z)[0]


def test_nothing_is_kept_per_step():
  values, statistics = parameters()
  assert values.per_step == {}
  assert statistics == {}
  assert chain.length(NETWORK.steps(values.per_step, statistics)) == T


def test_the_step_comes_in_by_its_time():
  values, _ = parameters()
  first, second = (apply(values.shared, jnp.asarray(t), states()) for t in (0, 1))
  assert np.abs(first.mean - second.mean).max() > 1e-4


def test_images_do_not_see_each_other():
  values, _ = parameters()
  z = states()
  together, alone = (
    apply(values.shared, jnp.asarray(0), rows) for rows in (z, z.at[1:].set(0.0))
  )
  np.testing.assert_array_equal(together.mean[0], alone.mean[0])


def test_every_parameter_has_an_effect():
  """With skips and all levels in use, no gradient is zero."""
  values, _ = parameters()
  gradient = jax.jit(
    jax.grad(lambda shared: apply(shared, jnp.asarray(1), states()).mean.var())
  )(values.shared)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    if "bias" in jax.tree_util.keystr(path):
      continue  # A bias may add what the group norm after it takes out.
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_the_mean_and_variance_are_in_range():
  values, _ = parameters()
  p = apply(values.shared, jnp.asarray(2), states())
  assert p.mean.shape == p.variance.shape == (B, *SHAPE)
  assert p.mean.min() > 0
  assert p.mean.max() < 1
  assert p.variance.min() >= 1e-4
  assert p.variance.max() <= 0.1 + 1e-4


def test_waves_tell_the_steps_apart():
  found = np.stack([waves(jnp.asarray((t + 1) / 50), 32) for t in range(50)])
  assert found.shape == (50, 32)
  gaps = np.linalg.norm(found[:, None] - found[None], axis=-1) + 10 * np.eye(50)
  assert gaps.min() > 0.3


@pytest.mark.slow
def test_both_criteria_run_without_per_step_parameters():
  values, _ = parameters(SHALLOW)
  prior = chain.Gaussian(jnp.full(SHAPE, 0.5), jnp.full(SHAPE, 0.1))
  infusion = Infusion(prior, jnp.asarray([0.0, 0.1, 0.2]), 1e-2)
  for criterion in (objectives.denoising, objectives.lower_bound):
    result = jax.jit(
      lambda key, x, criterion=criterion: criterion(
        key, SHALLOW.train, values, x, infusion
      )
    )(jax.random.key(0), states())
    assert np.isfinite(result.loss)
    assert result.gradient.per_step == {}


def test_half_precision_keeps_the_rest_in_single():
  net = Network(UNet(channels=(16, 8), dtype=jnp.bfloat16), SHAPE, T)
  values, _ = parameters()
  full = apply(values.shared, jnp.asarray(0), states())
  half, _ = jax.jit(net.train)(values.shared, Step({}, jnp.asarray(0)), states())
  assert half.mean.dtype == half.variance.dtype == jnp.float32
  gap = np.abs(full.mean - half.mean).max()
  assert 0 < gap < 0.05


@pytest.mark.parametrize(
  ("model", "shape", "message"),
  [
    ({"channels": (8, 8, 8)}, (6, 8, 1), "multiples of 4, these are 6x8"),
    ({"channels": (12, 8)}, (8, 8, 1), "model.groups is 8; it must divide"),
  ],
)
def test_configurations_that_do_not_fit(model, shape, message):
  with pytest.raises(UserError, match=message):
    build(ModelConfig(name="unet", **model), ChainConfig(), shape)


@pytest.mark.slow
def test_trains_is_saved_and_samples(tmp_path):
  """Empty trees of per-step parameters and statistics pass through everything."""
  images = np.random.default_rng(0).integers(0, 256, (24, *SHAPE)).astype(np.uint8)
  config = Config.from_dict(
    {
      "model": {"name": "unet", "channels": (8,)},
      "chain": {"num_steps": 2},
      "train": {"batch_size": 8, "num_epochs": 1},
    }
  )
  loop.fit(config, Dataset("noise", images, images, images), tmp_path, progress=False)
  model = infusion_jax.load(tmp_path)
  samples = model.sample(jax.random.key(0), 3, num_steps=4)
  assert samples.shape == (3, *SHAPE)
  assert np.isfinite(samples).all()
