"""Convolutions in both lowerings, and the operator of CIFAR-10 and CelebA."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from infusion_jax import chain, objectives
from infusion_jax.chain import Infusion, MarkovChain
from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.errors import UserError
from infusion_jax.networks import ConvNet, Network, build, layers

pytestmark = pytest.mark.usefixtures("quick_compile")

T, SHAPE, B = 3, (8, 12, 3), 5


def numpy_conv(x, kernel, stride):
  """ "SAME" convolution, one result pixel after the other."""
  x, kernel = np.float64(x), np.float64(kernel)
  rows, columns = kernel.shape[:2]
  sizes = [-(-size // stride) for size in x.shape[1:3]]
  totals = [
    max((size - 1) * stride + taps - old, 0)
    for size, taps, old in zip(sizes, (rows, columns), x.shape[1:3], strict=True)
  ]
  x = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in totals), (0, 0)))
  y = np.empty((len(x), *sizes, kernel.shape[-1]))
  for i in range(sizes[0]):
    for j in range(sizes[1]):
      window = x[:, i * stride : i * stride + rows, j * stride : j * stride + columns]
      y[:, i, j] = np.einsum("bklc,klcf->bf", window, kernel)
  return y


def numpy_transposed_conv(x, kernel):
  """Puts zeros between the pixels, then convolves; padding as in "SAME"."""
  size = len(kernel)
  stretched = np.zeros((len(x), 2 * x.shape[1] - 1, 2 * x.shape[2] - 1, x.shape[3]))
  stretched[:, ::2, ::2] = x
  before = -(-size // 2)
  pad = (before, size - before)
  stretched = np.pad(stretched, ((0, 0), pad, pad, (0, 0)))
  y = np.empty((len(x), 2 * x.shape[1], 2 * x.shape[2], kernel.shape[-1]))
  for i in range(y.shape[1]):
    for j in range(y.shape[2]):
      window = stretched[:, i : i + size, j : j + size]
      y[:, i, j] = np.einsum("bklc,klcf->bf", window, kernel)
  return y


def arrays(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("lowering", layers.LOWERINGS)
@settings(max_examples=8)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3))
def test_conv(lowering, height, width, taps, stride):
  x, kernel = arrays((2, height, width, 2), (taps, taps, 2, 3))
  y = jax.jit(layers.conv, static_argnums=(2, 3))(x, kernel, stride, lowering)
  np.testing.assert_allclose(y, numpy_conv(x, kernel, stride), atol=1e-4)


@pytest.mark.parametrize("lowering", layers.LOWERINGS)
@settings(max_examples=8)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(2, 7))
def test_transposed_conv(lowering, height, width, taps):
  x, kernel = arrays((2, height, width, 2), (taps, taps, 2, 3))
  y = jax.jit(layers.transposed_conv, static_argnums=2)(x, kernel, lowering)
  np.testing.assert_allclose(y, numpy_transposed_conv(x, kernel), atol=1e-4)


def test_lowerings_have_the_same_gradients():
  x, kernel, cotangent = arrays((2, 4, 3, 2), (5, 5, 2, 3), (2, 8, 6, 3))

  @functools.partial(jax.jit, static_argnums=0)
  def gradients(lowering):
    function = functools.partial(layers.transposed_conv, lowering=lowering)
    return jax.vjp(function, x, kernel)[1](cotangent)

  native, matmul = (gradients(lowering) for lowering in layers.LOWERINGS)
  for one, other in zip(native, matmul, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_lowering_follows_the_device():
  expected = "matmul" if jax.default_backend() == "cpu" else "native"
  assert layers.default_lowering() == expected
  network = build(ModelConfig(name="conv", channels=(4,)), ChainConfig(), (8, 8, 1))
  assert network.module.lowering == expected


def network(**options):
  return Network(ConvNet(channels=(6, 4), **options), SHAPE, T)


@functools.cache
def parameters(encoder="flat"):
  """Parameters and statistics that differ from step to step.

  Filled in numpy, as compiling the initializers takes longer than all tests.
  """
  rng = np.random.default_rng(1)

  def fill(path, leaf):
    if "kernel" in jax.tree_util.keystr(path):
      values = rng.normal(size=leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))
    else:
      values = rng.uniform(0.5, 1.5, leaf.shape)
    return jnp.asarray(values, leaf.dtype)

  shapes = jax.eval_shape(network(encoder=encoder).init, jax.random.key(0))
  return jax.tree.map_with_path(fill, shapes)


def states(batch=B):
  rng = np.random.default_rng(2)
  return jnp.asarray(rng.uniform(size=(batch, *SHAPE)), jnp.float32)


def numpy_operator(values, statistics, z, t):
  """Step t with fixed statistics, in double precision and layer by layer."""
  shared, per_step = jax.tree.map(np.float64, values)

  def activated(h, i):
    own = {n: v[t] for n, v in per_step[f"StepBatchNorm_{i}"].items()}
    seen = {n: v[t] for n, v in np_statistics[f"StepBatchNorm_{i}"].items()}
    factor = own["scale"] / np.sqrt(seen["variance"] + 1e-4)
    return np.maximum((h - seen["mean"]) * factor + own["bias"], 0)

  np_statistics = jax.tree.map(np.float64, statistics)
  h = np.float64(z).reshape(len(z), -1) @ shared["Dense_0"]["kernel"]
  h = activated(h, 0).reshape(len(z), 2, 3, 6)
  h = activated(numpy_transposed_conv(h, shared["TransposedConv_0"]["kernel"]), 1)
  heads = shared["TransposedConv_1"]
  raw = numpy_transposed_conv(h, heads["kernel"]) + heads["bias"]
  mean, raw_variance = 1 / (1 + np.exp(-raw[..., :3])), raw[..., 3:]
  return mean, 0.1 / (1 + np.exp(-raw_variance)) + 1e-4


@pytest.mark.parametrize("lowering", layers.LOWERINGS)
def test_operator_is_what_it_says(lowering):
  values, statistics = parameters()
  net, z = network(lowering=lowering), states()
  prediction = chain.run(
    None,
    chain.Gaussian(z, jnp.ones_like(z)),
    Partial(net.fixed, values.shared),
    net.steps(values.per_step, statistics),
    lambda inputs, p: chain.Draw(z, None),
    record=lambda visit: visit.after,
  ).trace
  for t in range(T):
    mean, variance = numpy_operator(values, statistics, z, t)
    np.testing.assert_allclose(prediction.mean[t], mean, atol=2e-5)
    np.testing.assert_allclose(prediction.variance[t], variance, atol=2e-6)


def shapes_of(tree):
  return jax.tree.map(lambda leaf: leaf.shape, tree)


def test_the_network_of_cifar10():
  net = build(ModelConfig(name="conv"), ChainConfig(num_steps=20), (32, 32, 3))
  values, _ = jax.eval_shape(net.init, jax.random.key(0))
  assert shapes_of(values.shared) == {
    "Dense_0": {"kernel": (3072, 4 * 4 * 512)},
    "TransposedConv_0": {"kernel": (5, 5, 512, 256)},
    "TransposedConv_1": {"kernel": (5, 5, 256, 128)},
    "TransposedConv_2": {"kernel": (5, 5, 128, 6), "bias": (6,)},
  }
  units = (4 * 4 * 512, 256, 128)
  assert shapes_of(values.per_step) == {
    f"StepBatchNorm_{i}": {"scale": (20, n), "bias": (20, n)}
    for i, n in enumerate(units)
  }


def test_the_network_of_celeba_has_one_more():
  model = ModelConfig(name="conv", channels=(512, 256, 128, 64))
  net = build(model, ChainConfig(), (64, 64, 3))
  values, _ = jax.eval_shape(net.init, jax.random.key(0))
  assert values.shared["Dense_0"]["kernel"].shape == (64 * 64 * 3, 4 * 4 * 512)
  assert values.shared["TransposedConv_2"]["kernel"].shape == (5, 5, 128, 64)
  assert values.shared["TransposedConv_3"]["kernel"].shape == (5, 5, 64, 6)


def test_both_heads_are_initialized_as_layers_of_their_own():
  net = Network(ConvNet(channels=(8, 16)), (8, 8, 3), 1)
  kernel = net.init(jax.random.key(0))[0].shared["TransposedConv_1"]["kernel"]
  limit = math.sqrt(6 / (25 * (8 * 2 + 3)))
  for head in (kernel[..., :3], kernel[..., 3:]):
    assert 0.95 * limit < np.abs(head).max() <= 1.0001 * limit


def test_the_convolutional_encoder():
  values, _ = parameters("conv")
  kernels = {name: leaf["kernel"].shape for name, leaf in values.shared.items()}
  assert kernels["Conv_0"] == (5, 5, 3, 4)
  assert kernels["Conv_1"] == (5, 5, 4, 4)
  assert kernels["Dense_0"] == (2 * 3 * 4, 2 * 3 * 6)
  net = network(encoder="conv")
  first = jax.tree.map(lambda leaf: leaf[0], net.steps(values.per_step))
  p, report = net.train(values.shared, first, states())
  assert p.mean.shape == (B, *SHAPE)
  assert len(report) == 4


def test_statistics_are_those_of_the_batch():
  values, _ = parameters()
  second = jax.tree.map(lambda leaf: leaf[1], network().steps(values.per_step))
  z = states()
  _, report = network().train(values.shared, second, z)
  h = z.reshape(B, -1) @ values.shared["Dense_0"]["kernel"]
  np.testing.assert_allclose(report["StepBatchNorm_0"]["mean"], h.mean(0), atol=1e-5)
  np.testing.assert_allclose(report["StepBatchNorm_0"]["variance"], h.var(0), atol=1e-5)
  assert report["StepBatchNorm_1"]["mean"].shape == (4,)


@pytest.mark.parametrize("size", [(12, 16), (16, 4), (7, 8)])
def test_sizes_that_do_not_fit(size):
  model = ModelConfig(name="conv", channels=(8, 8, 8))
  with pytest.raises(
    UserError, match=rf"multiples of 8, these are {size[0]}x{size[1]}"
  ):
    build(model, ChainConfig(), (*size, 1))


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"channels": ()}, "model.channels is"),
    ({"channels": (8, 0)}, "model.channels is"),
    ({"kernel_size": 1}, "model.kernel_size is 1"),
    ({"encoder": "deep"}, "model.encoder is 'deep'; allowed are flat, conv"),
  ],
)
def test_bad_configurations(values, message):
  with pytest.raises(UserError, match=message):
    ModelConfig(name="conv", **values)


def bounds(module, count=8):
  """The bound of the same images under `count` draws of the chain, in nats."""
  net = Network(module, SHAPE, T)
  values, _ = parameters()
  x = states(16)
  prior = chain.Gaussian(jnp.full(SHAPE, 0.5), jnp.full(SHAPE, 0.1))
  infusion = Infusion(prior, jnp.asarray([0.0, 0.1, 0.2]), 1e-2)

  @jax.jit
  def bound(key):
    transition = Partial(net.train, values.shared)
    markov = MarkovChain(transition, net.steps(values.per_step), infusion)
    terms, report = objectives.bound(key, markov, x)
    return terms.bound.mean(), report

  results = [bound(jax.random.key(seed)) for seed in range(count)]
  return np.array([value for value, _ in results]), results[0][1]


def test_half_precision_moves_the_bound_by_less_than_its_noise():
  module = network().module
  full, _ = bounds(module)
  half, report = bounds(dataclasses.replace(module, dtype=jnp.bfloat16))
  assert not np.array_equal(full, half)
  assert abs(full.mean() - half.mean()) < full.std()
  assert {leaf.dtype for leaf in jax.tree.leaves(report)} == {jnp.dtype("float32")}


def test_half_precision_keeps_parameters_and_densities_in_single():
  net = network(dtype=jnp.bfloat16)
  values, statistics = jax.eval_shape(net.init, jax.random.key(0))
  first = jax.tree.map(lambda leaf: leaf[0], net.steps(parameters()[0].per_step))
  p, _ = jax.eval_shape(net.train, values.shared, first, states())
  leaves = jax.tree.leaves((values, statistics, p))
  assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
