"""The compiled part of training, against plain Python."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import runs
from jax.tree_util import Partial

from infusion_jax import objectives, pixels, random
from infusion_jax.chain import MarkovChain
from infusion_jax.training import averages, programs
from infusion_jax.training.state import initial_state, make_recipe, make_run


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def setup():
  config, data = runs.config(), runs.dataset()
  recipe, run = make_recipe(config, data), make_run(config, data)
  return recipe, run, jnp.asarray(data.train)


def steps(setup, state, count):
  recipe, run, images = setup
  return programs.compiled(recipe).train_steps(state, run, images, jnp.asarray(count))


def start(setup):
  recipe, run, _ = setup
  return initial_state(recipe, run.key)


def test_cutting_an_epoch_into_chunks_changes_no_bit(setup):
  whole = steps(setup, start(setup), 4)
  parts = steps(setup, steps(setup, start(setup), 1), 3)
  assert_same(whole, parts)
  assert int(whole.step) == 4


def test_an_epoch_visits_every_image_once_and_epochs_differ():
  key = jax.random.key(3)
  orders = [np.asarray(programs.epoch_order(key, e, 70)) for e in range(2)]
  for order in orders:
    np.testing.assert_array_equal(np.sort(order), np.arange(70))
  assert (orders[0] != orders[1]).any()


def test_a_step_is_adam_on_the_criterions_gradient(setup):
  recipe, run, images = setup
  state = start(setup)
  batch = images[programs.epoch_order(run.key, 0, 70)[:16]]
  key = random.fold_in(random.named(run.key, "train"), 0)
  x = pixels.dequantized(random.named(key, "dequantize"), batch, 17)
  result = objectives.denoising(
    random.named(key, "chain"),
    recipe.network.train,
    state.parameters,
    x,
    run.infusion,
  )
  adam = optax.adam(float(run.learning_rate))
  updates, _ = adam.update(result.gradient, adam.init(state.parameters))
  expected = optax.apply_updates(state.parameters, updates)
  got = steps(setup, start(setup), 1)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), got.parameters, expected
  )
  np.testing.assert_allclose(got.totals.loss, result.loss, rtol=1e-5)
  np.testing.assert_allclose(
    got.totals.gradient_norm, optax.tree.norm(result.gradient), rtol=1e-4
  )
  # Running statistics start at mean 0, variance 1 and move a tenth of the way.
  mean = got.statistics["StepBatchNorm_0"]["mean"]
  np.testing.assert_allclose(
    mean, 0.1 * result.report["StepBatchNorm_0"]["mean"], atol=1e-6
  )
  variance = got.statistics["StepBatchNorm_0"]["variance"]
  np.testing.assert_allclose(
    variance, 0.9 + 0.1 * result.report["StepBatchNorm_0"]["variance"], rtol=1e-5
  )


def test_another_schedule_seed_or_rate_does_not_recompile(setup):
  recipe, run, images = setup
  traces = []

  def counted(state, run, images, count):
    traces.append(1)
    return programs.train_steps(recipe, state, run, images, count)

  function = jax.jit(counted)
  variants = [
    run,
    run._replace(infusion=run.infusion._replace(rates=jnp.array([0.5, 0.0, 1.0]))),
    run._replace(key=jax.random.key(9), learning_rate=jnp.float32(0.1)),
    run._replace(decay_steps=run.decay_steps + 10),
  ]
  results = [
    function(start(setup), variant, images, jnp.asarray(n))
    for n, variant in enumerate(variants, 1)
  ]
  assert len(traces) == 1
  assert [int(r.step) for r in results] == [1, 2, 3, 4]


def test_the_first_step_that_is_not_finite_is_remembered(setup):
  recipe, run, images = setup
  poisoned = run._replace(learning_rate=jnp.asarray(jnp.inf))
  state = programs.compiled(recipe).train_steps(
    start(setup), poisoned, images, jnp.asarray(4)
  )
  assert int(state.failed) == 1


def test_clipping_bounds_what_adam_sees(setup):
  recipe, run, images = setup
  clipped = dataclasses.replace(recipe, clip=1e-3)
  state = programs.train_steps(
    clipped, initial_state(clipped, run.key), run, images, jnp.asarray(1)
  )
  first_moment = state.optimizer.mu
  # After one step Adam's first moment is a tenth of the gradient it was given.
  np.testing.assert_allclose(optax.tree.norm(first_moment), 1e-4, rtol=1e-4)


def test_average_follows_the_parameters(setup):
  recipe, run, images = setup
  averaged = dataclasses.replace(recipe, ema_decay=0.9)
  begin = initial_state(averaged, run.key)
  after = programs.train_steps(averaged, begin, run, images, jnp.asarray(1))
  # The first step keeps min(0.9, 1 / 10) of the past.
  expected = jax.tree.map(
    lambda old, new: 0.1 * old + 0.9 * new, begin.parameters, after.parameters
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.average, expected
  )
  assert after.current is after.average


def test_learning_rate_decay():
  assert float(programs.decay(jnp.asarray(7), jnp.asarray(0))) == 1.0
  values = [
    float(programs.decay(jnp.asarray(s), jnp.asarray(10))) for s in (0, 5, 10, 20)
  ]
  np.testing.assert_allclose(values, [1.0, 0.5, 0.0, 0.0], atol=1e-6)


def test_the_best_parameters_are_kept(setup):
  state = start(setup)
  first = programs.end_epoch(state, jnp.asarray(5.0), jnp.asarray(1))
  trained = steps(setup, jax.tree.map(jnp.array, first), 2)
  worse = programs.end_epoch(trained, jnp.asarray(4.0), jnp.asarray(2))
  assert_same(worse.best, first.best)
  broken = programs.end_epoch(trained, jnp.asarray(jnp.nan), jnp.asarray(2))
  assert_same(broken.best, first.best)
  better = programs.end_epoch(trained, jnp.asarray(6.0), jnp.asarray(2))
  assert_same(better.best.parameters, trained.parameters)
  assert (float(better.best.bound), int(better.best.epoch)) == (6.0, 2)
  assert float(better.totals.count) == 0.0


@pytest.mark.parametrize(
  ("count", "batch_size", "size"),
  [(10_000, 128, 125), (70, 16, 14), (20, 16, 10), (67, 16, 14), (5, 16, 5), (7, 2, 2)],
)
def test_batches_are_even(count, batch_size, size):
  assert averages.even_batch(count, batch_size) == size


@pytest.mark.parametrize("count", [20, 67, 71])
def test_averages_weigh_batches_by_their_size(count):
  images = jnp.asarray(np.random.default_rng(1).normal(size=(count, 4, 4, 1)))
  got = averages.over_batches(
    lambda key, batch: {"mean": batch.mean(), "square": jnp.square(batch).mean()},
    jax.random.key(0),
    images,
    16,
  )
  np.testing.assert_allclose(got["mean"], images.mean(), atol=1e-6)
  np.testing.assert_allclose(got["square"], jnp.square(images).mean(), rtol=1e-6)


def test_population_statistics_average_the_batches_of_the_infusion_chain(setup):
  recipe, run, _ = setup
  images = jnp.asarray(runs.dataset(67).train)
  state, key = start(setup), jax.random.key(5)
  got = programs.population_statistics(
    recipe, state.parameters, key, run.infusion, images
  )
  expected, first = 0.0, 0
  for index, size in enumerate((14, 14, 14, 14, 11)):
    batch_key = random.fold_in(key, index)
    batch = images[first : first + size]
    x = pixels.dequantized(random.named(batch_key, "dequantize"), batch, 17)
    markov = MarkovChain(
      Partial(recipe.network.train, state.parameters.shared),
      recipe.network.steps(state.parameters.per_step),
      run.infusion,
    )
    _, report = objectives.bound(random.named(batch_key, "chain"), markov, x)
    expected = expected + report["StepBatchNorm_0"]["variance"] * size / 67
    first += size
  np.testing.assert_allclose(
    got["StepBatchNorm_0"]["variance"], expected, rtol=1e-5, atol=1e-7
  )


def test_mean_terms_add_up_and_repeat(setup):
  recipe, run, images = setup
  state, key = start(setup), jax.random.key(5)
  call = programs.compiled(recipe).mean_terms
  one = call(state.parameters, key, run.infusion, images)
  two = call(state.parameters, key, run.infusion, images)
  assert_same(one, two)
  parts = one["prior"] + one["per_step"] + one["reconstruction"]
  np.testing.assert_allclose(one["bound"], parts, rtol=1e-5)
