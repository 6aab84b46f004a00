"""Self-conditioning: chains against plain loops and double sums, networks, runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import toys

import infusion_jax
from infusion_jax import UserError, chain, gaussian, networks
from infusion_jax.chain import Infusion, MarkovChain
from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.likelihood import importance, quadrature
from infusion_jax.networks import Network
from infusion_jax.states.self_conditioned import SelfConditioned
from infusion_jax.training import loop

DATA = runs.dataset()


def both(step, seen):
  """A mean made of the state and of the mean it was drawn around."""
  z, mean = jnp.split(seen, 2, axis=-1)
  return SelfConditioned(step * z + jnp.sin(3 * mean), 0.2 + 0.1 * z**2), None


def markov(rates=(0.0, 0.0), shape=(1, 1, 1)):
  prior = SelfConditioned(jnp.full(shape, 0.3), jnp.full(shape, 0.4))
  infusion = Infusion(prior, jnp.asarray(rates), 0.05)
  return MarkovChain(both, jnp.array([0.5, -0.8]), infusion)


def test_a_transition_sees_the_mean_before(key):
  toy = markov(shape=(2, 2, 1))
  found = chain.generate(key, toy, 3, record=lambda visit: (visit.state, visit.before))
  states, before = found.trace
  np.testing.assert_allclose(before.mean[0], 0.3, rtol=1e-6)
  expected = 0.5 * states[0] + np.sin(3 * 0.3)
  np.testing.assert_allclose(before.mean[1], expected, rtol=1e-5)
  last = -0.8 * states[1] + np.sin(3 * expected)
  np.testing.assert_allclose(found.prediction.mean, last, rtol=1e-5)
  assert isinstance(found.prediction, SelfConditioned)


def exact(x):
  """log p(x) by the double sum over z^(0) and z^(1), in float64."""
  nodes = np.linspace(-5, 5, 401)
  start = np.exp(toys.log_normal(nodes, 0.3, 0.4))
  first, _ = both(0.5, np.stack([nodes, np.full_like(nodes, 0.3)], -1)[:, None])
  means, variances = (np.asarray(leaf, np.float64).reshape(-1, 1) for leaf in first)
  between = start[:, None] * np.exp(toys.log_normal(nodes, means, variances))
  second = -0.8 * nodes + np.sin(3 * means)
  output = np.exp(toys.log_normal(x, second, 0.2 + 0.1 * nodes**2))
  return np.log((between * output).sum() * (nodes[1] - nodes[0]) ** 2)


def test_bound_and_importance_sampling_bracket_the_double_sum(key):
  count, x = 20_000, jnp.full((1, 1, 1, 1), 0.9)
  keys = importance.image_keys(key, np.arange(1))
  terms = importance.log_weights(keys, markov((0.1, 0.3)), x, jnp.arange(count))
  values = np.asarray(terms.bound[0], np.float64)
  assert values.mean() < exact(0.9) - 4 * values.std() / np.sqrt(count)
  weights = np.exp(values - exact(0.9))
  error = weights.std() / np.sqrt(count)
  assert abs(weights.mean() - 1) < 3 * error < 0.05


def test_guidance_and_other_changes_keep_the_kind():
  p = SelfConditioned(jnp.zeros(2), jnp.ones(2))
  assert isinstance(p.toward(p, jnp.float32(2.0)), SelfConditioned)
  assert isinstance(jax.tree.map(jnp.copy, p), SelfConditioned)
  assert gaussian.Gaussian(*p).seen(p.mean) is p.mean


def test_numerical_integration_refuses():
  with pytest.raises(UserError, match="SelfConditioned; numerical integration"):
    quadrature.whole(markov(shape=(1, 2, 1)))


# --- Networks and runs ----------------------------------------------------------------


def network(name) -> Network:
  model = ModelConfig(
    name=name, hidden_sizes=(8,), channels=(8, 8), groups=2, self_conditioning=True
  )
  return networks.build(model, ChainConfig(num_steps=2), (8, 8, 3))


@pytest.mark.parametrize("name", ["mlp", "conv", "unet"])
def test_every_network_reads_the_mean_and_answers_with_a_state(name):
  built = network(name)
  twice = jnp.zeros((4, 8, 8, 6))

  def answer(seen):
    parameters, statistics = built.init(jax.random.key(0))
    steps = built.steps(parameters.per_step, statistics)
    return built.fixed(parameters.shared, toys.row(steps, 0), seen)[0]

  found = jax.eval_shape(answer, twice)
  assert isinstance(found, SelfConditioned)
  assert found.mean.shape == found.variance.shape == (4, 8, 8, 3)


def config(**train):
  made = runs.config(**train)
  model = dataclasses.replace(made.model, self_conditioning=True)
  return dataclasses.replace(made, model=model)


def test_a_run_is_trained_resumed_and_loaded(tmp_path, key):
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  loop.fit(config(num_epochs=2, objective="hybrid"), DATA, whole, progress=False)
  for epochs in (1, 2):
    train = {"num_epochs": epochs, "objective": "hybrid"}
    loop.fit(config(**train), DATA, parts, progress=False)
  assert runs.rows(parts) == runs.rows(whole)
  model = infusion_jax.load(whole)
  assert isinstance(model.weights.infusion.prior, SelfConditioned)
  kernel = model.weights.parameters.shared["Dense_0"]["kernel"]
  assert kernel.shape == (2 * 16, 8)
  assert model.sample(key, 2).shape == (2, 4, 4, 1)


def test_a_group_of_runs_has_its_structure():
  shapes = runs.group_shapes(config(), DATA)
  assert shapes.shared["Dense_0"]["kernel"].shape == (2, 2 * 16, 8)
