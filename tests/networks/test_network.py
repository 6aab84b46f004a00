"""A Flax module repeated over T steps; the thesis's MLP and its two heads."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import toys
from jax.tree_util import Partial

from infusion_jax import chain, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import MLP, Network
from infusion_jax.networks.heads import to_gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")

T, SHAPE, B = 3, (3, 2, 2), 6
NETWORK = Network(MLP((7, 5)), SHAPE, T)


def states(seed=0, batch=B):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.uniform(size=(batch, *SHAPE)), jnp.float32)


@functools.cache
def generic():
  """Parameters and statistics that differ from step to step."""
  rng = np.random.default_rng(1)

  def perturb(leaf):
    return leaf + jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), leaf.dtype)

  parameters, statistics = jax.jit(NETWORK.init)(jax.random.key(0))
  per_step, statistics = jax.tree.map(perturb, (parameters.per_step, statistics))
  return parameters._replace(per_step=per_step), statistics


@functools.partial(jax.jit, static_argnames="mode")
def every_step(mode, parameters, statistics, z):
  """What each of the T transitions makes of the same states, and reports."""
  transition = Partial(getattr(NETWORK, mode), parameters.shared)
  steps = NETWORK.steps(parameters.per_step, statistics)
  return jax.vmap(transition, (0, None))(steps, z)


def changed_row(tree, row):
  return jax.tree.map(lambda leaf: leaf.at[row].add(0.3), tree)


def numpy_mlp(parameters, statistics, z, t, train):
  """Step t in double precision, layer by layer; also the batch statistics."""
  parameters, statistics = jax.tree.map(np.float64, (parameters, statistics))
  shared, per_step = parameters
  h, batch = np.float64(z).reshape(len(z), -1), {}
  for i in range(2):
    h = h @ shared[f"Dense_{i}"]["kernel"]
    name = f"StepBatchNorm_{i}"
    batch[name] = {"mean": h.mean(0), "variance": h.var(0)}
    own = {k: v[t] for k, v in per_step[name].items()}
    used = batch[name] if train else {k: v[t] for k, v in statistics[name].items()}
    h = (h - used["mean"]) / np.sqrt(used["variance"] + 1e-4)
    h = np.maximum(own["scale"] * h + own["bias"], 0)
  raw = h @ shared["Dense_2"]["kernel"] + shared["Dense_2"]["bias"]
  mean, variance = np.split(1 / (1 + np.exp(-raw)), 2, axis=1)
  variance = 0.1 * variance + 1e-4
  return Gaussian(mean.reshape(z.shape), variance.reshape(z.shape)), batch


@pytest.mark.parametrize("mode", ["train", "fixed"])
def test_every_step_is_the_mlp_written_out_in_numpy(mode):
  (parameters, statistics), z = generic(), states()
  p, report = every_step(mode, parameters, statistics, z)
  for t in range(T):
    expected, batch = numpy_mlp(parameters, statistics, z, t, mode == "train")
    np.testing.assert_allclose(p.mean[t], expected.mean, rtol=2e-4)
    np.testing.assert_allclose(p.variance[t], expected.variance, rtol=2e-4)
    if mode == "fixed":
      assert report is None
      continue
    row = toys.row(report, t)
    assert jax.tree.structure(row) == jax.tree.structure(batch)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), row, batch
    )


@pytest.mark.parametrize("row", range(T))
def test_a_row_of_parameters_or_statistics_is_seen_by_its_step_only(row):
  (parameters, statistics), z = generic(), states()
  base, _ = every_step("fixed", parameters, statistics, z)
  own = parameters._replace(per_step=changed_row(parameters.per_step, row))
  for changed in (
    every_step("fixed", own, statistics, z),
    every_step("fixed", parameters, changed_row(statistics, row), z),
  ):
    for t in range(T):
      same = np.array_equal(changed[0].mean[t], base.mean[t])
      assert same == (t != row)


def test_training_mode_ignores_the_given_statistics():
  (parameters, statistics), z = generic(), states()
  base = every_step("train", parameters, statistics, z)
  other = every_step("train", parameters, changed_row(statistics, 1), z)
  jax.tree.map(np.testing.assert_array_equal, base, other)


def test_chain_gives_step_t_row_t_and_reports_row_t(key):
  """In a chain, a changed row leaves everything before its step as it was."""
  parameters, statistics = generic()
  start = Gaussian(states(), jnp.full((B, *SHAPE), 0.01))

  @jax.jit
  def run(parameters):
    transition = Partial(NETWORK.train, parameters.shared)
    steps = NETWORK.steps(parameters.per_step)
    result = chain.run(
      random.steps(key, T),
      start,
      transition,
      steps,
      chain.from_model,
      record=lambda visit: (visit.state, visit.after.mean, visit.report),
    )
    return result.trace

  state, mean, report = run(parameters)
  for t in range(T):
    expected, batch = numpy_mlp(parameters, statistics, state[t], t, True)
    np.testing.assert_allclose(mean[t], expected.mean, rtol=1e-3, atol=1e-5)
    reported = report["StepBatchNorm_0"]["mean"][t]
    np.testing.assert_allclose(reported, batch["StepBatchNorm_0"]["mean"], rtol=1e-4)
  changed = parameters._replace(per_step=changed_row(parameters.per_step, 1))
  other_state, other_mean, _ = run(changed)
  np.testing.assert_array_equal(other_state[:2], state[:2])
  np.testing.assert_array_equal(other_mean[0], mean[0])
  assert (other_mean[1] != mean[1]).any()
  assert (other_state[2] != state[2]).any()


@pytest.mark.parametrize("mode", ["train", "fixed"])
def test_transition_is_an_argument_a_program_is_compiled_once_for(mode):
  (parameters, statistics), traces = generic(), []

  @jax.jit
  def first_step(transition, steps, z):
    traces.append(1)
    row = jax.tree.map(lambda leaf: leaf[0], steps)
    return transition(row, z)[0].mean

  steps = NETWORK.steps(parameters.per_step, statistics)
  halved = jax.tree.map(lambda leaf: 0.5 * leaf, parameters.shared)
  operator = getattr(NETWORK, mode)
  first = first_step(Partial(operator, parameters.shared), steps, states())
  second = first_step(Partial(operator, halved), steps, states())
  assert len(traces) == 1
  assert (first != second).any()


def test_longer_chain_repeats_the_last_row_statistics_included():
  parameters, statistics = generic()
  steps = chain.extended(NETWORK.steps(parameters.per_step, statistics), T + 2)
  transition = jax.jit(Partial(NETWORK.fixed, parameters.shared))
  outputs = [transition(toys.row(steps, t), states())[0].mean for t in range(T + 2)]
  np.testing.assert_array_equal(outputs[T], outputs[T - 1])
  np.testing.assert_array_equal(outputs[T + 1], outputs[T - 1])
  assert (outputs[T - 1] != outputs[T - 2]).any()


def test_image_depends_on_its_batch_in_training_mode_only():
  parameters, statistics = generic()
  z, other = states(), states(seed=9)
  mixed = jnp.concatenate([other[:2], z[2:3], other[3:]])
  for mode, depends in (("fixed", False), ("train", True)):
    first, _ = every_step(mode, parameters, statistics, z)
    second, _ = every_step(mode, parameters, statistics, mixed)
    distance = np.abs(first.mean[:, 2] - second.mean[:, 2]).max()
    assert (distance > 1e-2) if depends else (distance < 1e-6)
  alone, _ = every_step("fixed", parameters, statistics, z[2:3])
  first, _ = every_step("fixed", parameters, statistics, z)
  np.testing.assert_allclose(alone.mean[:, 0], first.mean[:, 2], atol=1e-6)


# --- Parameters -----------------------------------------------------------------------


def test_initial_rows_are_equal_for_all_steps():
  parameters, statistics = jax.jit(NETWORK.init)(jax.random.key(0))
  for name, size in (("StepBatchNorm_0", 7), ("StepBatchNorm_1", 5)):
    own, fixed = parameters.per_step[name], statistics[name]
    np.testing.assert_array_equal(own["scale"], np.ones((T, size)))
    np.testing.assert_array_equal(own["bias"], np.zeros((T, size)))
    np.testing.assert_array_equal(fixed["mean"], np.zeros((T, size)))
    np.testing.assert_array_equal(fixed["variance"], np.ones((T, size)))


def test_no_layer_before_a_batch_norm_has_a_bias():
  parameters, _ = jax.eval_shape(NETWORK.init, jax.random.key(0))
  assert {name: set(layer) for name, layer in parameters.shared.items()} == {
    "Dense_0": {"kernel"},
    "Dense_1": {"kernel"},
    "Dense_2": {"kernel", "bias"},
  }


def test_thesis_mlp_has_the_parameters_counted_by_hand():
  network = Network(MLP(), (28, 28, 1), 15)
  parameters, statistics = jax.eval_shape(network.init, jax.random.key(0))

  def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))

  hidden = 784 * 1200 + 1200 * 1200
  heads = 2 * (1200 * 784 + 784)
  assert count(parameters.shared) == hidden + heads == 4_263_968
  # Scale and bias of two layers at 15 steps; as many means and variances.
  assert count(parameters.per_step) == 15 * 2 * 2 * 1200 == 72_000
  assert count(statistics) == 72_000


def test_each_heads_kernel_is_glorots_own():
  """One product serves both heads, but neither knows of the other's size."""
  network = Network(MLP((50, 40)), (6, 5, 2), 2)
  parameters, _ = jax.jit(network.init)(jax.random.key(0))
  kernels = parameters.shared
  mean, variance = np.split(kernels["Dense_2"]["kernel"], 2, axis=1)
  for kernel in (kernels["Dense_0"]["kernel"], mean, variance):
    bound = np.sqrt(6 / sum(kernel.shape))
    uniform = scipy.stats.uniform(-bound, 2 * bound)
    assert scipy.stats.kstest(np.ravel(kernel), uniform.cdf).pvalue > 0.01
    assert np.abs(kernel).max() <= bound
  assert np.abs(np.corrcoef(mean.ravel(), variance.ravel())[0, 1]) < 0.1
  np.testing.assert_array_equal(kernels["Dense_2"]["bias"], np.zeros(120))


def test_network_is_hashable_and_equal_by_value():
  again = Network(MLP((7, 5)), SHAPE, T)
  assert again == NETWORK
  assert hash(again) == hash(NETWORK)
  assert Network(MLP((7, 6)), SHAPE, T) != NETWORK


# --- Heads ----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("raw", "mean", "variance"),
  [
    (0.0, 0.5, 0.0501),
    (math.log(3), 0.75, 0.0751),
    (1e4, 1.0, 0.1001),
    (-1e4, 0.0, 1e-4),
  ],
)
def test_heads_bound_mean_and_variance(raw, mean, variance):
  p = to_gaussian(jnp.full(2, raw), jnp.full(2, raw), 0.1, 1e-4)
  np.testing.assert_allclose(p.mean, [mean] * 2, rtol=1e-6)
  np.testing.assert_allclose(p.variance, [variance] * 2, rtol=1e-6)


def test_heads_bounds_hold_for_any_activations():
  module = MLP((4,), variance_scale=0.3, variance_floor=0.02)
  network = Network(module, SHAPE, 1)
  parameters, _ = jax.jit(network.init)(jax.random.key(0))
  shared = jax.tree.map(lambda leaf: 1e3 * leaf, parameters.shared)
  first = toys.row(network.steps(parameters.per_step), 0)
  p, _ = jax.jit(network.train)(shared, first, 1e3 * states())
  assert p.mean.min() == 0
  assert p.mean.max() == 1
  np.testing.assert_allclose(p.variance.min(), 0.02, rtol=1e-6)
  np.testing.assert_allclose(p.variance.max(), 0.32, rtol=1e-6)


def test_first_half_of_the_last_layer_is_the_mean_in_image_order():
  parameters, statistics = generic()
  size = math.prod(SHAPE)
  last = {"kernel": jnp.zeros((5, 2 * size)), "bias": jnp.arange(2.0 * size) / size}
  shared = parameters.shared | {"Dense_2": last}
  p, _ = every_step("fixed", parameters._replace(shared=shared), statistics, states())
  ramp = np.arange(2 * size) / size
  expected = 1 / (1 + np.exp(-ramp.reshape(2, *SHAPE)))
  np.testing.assert_allclose(p.mean[1, 2], expected[0], rtol=1e-5)
  np.testing.assert_allclose(p.variance[1, 2], 0.1 * expected[1] + 1e-4, rtol=1e-5)


def test_low_precision_products_leave_the_gaussian_in_single():
  network = Network(MLP((7,), dtype=jnp.bfloat16), SHAPE, T)
  parameters, _ = jax.jit(network.init)(jax.random.key(0))
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(parameters))
  first = toys.row(network.steps(parameters.per_step), 0)
  p, report = jax.jit(network.train)(parameters.shared, first, states())
  assert p.mean.dtype == p.variance.dtype == jnp.float32
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(report))
  single = Network(MLP((7,)), SHAPE, T)
  exact, _ = jax.jit(single.train)(parameters.shared, first, states())
  difference = np.abs(p.mean - exact.mean).max()
  assert 0 < difference < 0.05


# --- Modules of one's own -------------------------------------------------------------


class Clock(nn.Module):
  """Answers with what it was told; has no batch norm, so nothing per step."""

  @nn.compact
  def __call__(self, z, time, train):
    told = z * self.param("zero", nn.initializers.zeros, ())
    return Gaussian(told + time, told + (2.0 if train else 1.0))


@pytest.mark.parametrize(("mode", "variance"), [("train", 2), ("fixed", 1)])
def test_module_is_told_its_time_and_mode(mode, variance):
  """t / T in (0, 1]; a module without per-step variables is welcome."""
  network = Network(Clock(), SHAPE, 4)
  parameters, statistics = network.init(jax.random.key(0))
  assert jax.tree.leaves((parameters.per_step, statistics)) == []
  transition = Partial(getattr(network, mode), parameters.shared)
  steps = network.steps(parameters.per_step, statistics)
  p, _ = jax.vmap(transition, (0, None))(steps, states())
  np.testing.assert_allclose(p.mean[:, 0, 0, 0, 0], [0.25, 0.5, 0.75, 1.0])
  assert (p.variance == variance).all()
