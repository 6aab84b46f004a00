import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import UserError, chain, gaussian
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.annealing import estimator, temperatures
from infusion_jax.likelihood.annealing.estimator import Moves, Schedule


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=3)


def schedule(num_legs, angle=0.5):
  betas = temperatures.geometric(num_legs, 1e-2).astype(np.float32)
  return Schedule(betas, np.full(num_legs + 1, angle, np.float32))


def estimate(toy, key, x, plan, **options):
  keys = importance.image_keys(key, np.arange(len(x)))
  return estimator.estimate(keys, toy.markov(), x, plan, **options)


def test_the_decoder_is_the_chain(toy, key):
  noise = jax.random.normal(key, (5, 3, *toy.prior.mean.shape))
  z = toy.prior.mean + jnp.sqrt(toy.prior.variance) * noise[:, 0]
  for t in range(3):
    p, _ = toy.transition(jax.tree.map(lambda leaf, t=t: leaf[t], toy.steps), z)
    if t < 2:
      z = p.mean + jnp.sqrt(p.variance) * noise[:, t + 1]
  found = chain.decode(noise, toy.markov())
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, p)


def test_the_evaluator_is_the_likelihood(toy, key):
  noise = jax.random.normal(key, (4, 3, *toy.prior.mean.shape))
  x = toy.draw(key, 4)
  evaluate = estimator.evaluator(toy.markov(), x)
  values, gradient = evaluate(noise)
  p = chain.decode(noise, toy.markov())
  np.testing.assert_allclose(values, gaussian.log_density(x, p).sum((1, 2, 3)), 1e-5)
  step = 1e-2 * jax.random.normal(jax.random.fold_in(key, 1), noise.shape)
  ahead, behind = evaluate(noise + step)[0], evaluate(noise - step)[0]
  np.testing.assert_allclose(
    ahead - behind, 2 * (gradient * step).sum((1, 2, 3, 4)), rtol=0.02, atol=2e-3
  )


@pytest.mark.parametrize("moves", [Moves(1, 0.0), Moves(1, 0.9), Moves(3, 0.0)])
def test_the_weight_is_unbiased(toy, key, moves):
  x = jnp.repeat(toy.draw(jax.random.key(3), 1), 4000, axis=0)
  exact = toy.log_likelihood(x[:1])[0]
  found = estimate(toy, key, x, schedule(12), num_chains=1, moves=moves)
  ratio = np.exp(found.astype(np.float64) - exact)
  error = ratio.std() / np.sqrt(len(x))
  assert error < 0.1
  assert abs(ratio.mean() - 1) < 4 * error
  # The log of it is a lower bound, and by more than its noise.
  assert found.mean() + 4 * found.std() / np.sqrt(len(x)) < exact


def test_more_temperatures_and_more_chains_come_closer(toy, key):
  x = toy.draw(jax.random.key(4), 500)
  exact = toy.log_likelihood(x).mean()

  def missing(num_legs, num_chains):
    return (
      exact - estimate(toy, key, x, schedule(num_legs), num_chains=num_chains).mean()
    )

  few = missing(5, 1)
  assert missing(5, 4) < 0.8 * few
  assert 0 < missing(40, 1) < 0.5 * few


def test_importance_and_annealing_agree(toy, key):
  x = toy.draw(jax.random.key(5), 20)
  keys = importance.image_keys(key, np.arange(20))
  markov = toy.markov(np.full(3, 0.1))
  one = importance.estimate(keys, markov, x, num_chains=4000, chunk_size=400).importance
  other = estimate(toy, key, x, schedule(60), num_chains=8)
  np.testing.assert_allclose(one, other, atol=0.4)
  assert abs(np.mean(one - other)) < 0.1


def legs_of(toy, key, x, plan, **options):
  keys = importance.image_keys(key, np.arange(len(x)))
  return estimator.run(keys, toy.markov(), x, plan, num_chains=2, **options)


@pytest.mark.parametrize("chunk_size", [1, 4, 100])
def test_chunks_of_temperatures_do_not_matter(toy, key, chunk_size):
  x = toy.draw(key, 3)
  *_, whole = legs_of(toy, key, x, schedule(10), chunk_size=10)
  *_, found = legs_of(toy, key, x, schedule(10), chunk_size=chunk_size)
  assert found.done == whole.done == 10
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, whole
  )


def test_a_saved_state_goes_on_where_it_was(toy, key, tmp_path):
  x = toy.draw(key, 3)
  seen = list(legs_of(toy, key, x, schedule(10), chunk_size=3))
  assert [progress.done for progress in seen] == [3, 6, 9, 10]
  leaves, structure = jax.tree.flatten(seen[1])
  np.savez(tmp_path / "state.npz", *leaves)
  with np.load(tmp_path / "state.npz") as saved:
    restored = jax.tree.unflatten(structure, [saved[name] for name in saved.files])
  rest = list(legs_of(toy, key, x, schedule(10), chunk_size=3, resume=restored))
  assert [progress.done for progress in rest] == [9, 10]
  jax.tree.map(np.testing.assert_array_equal, rest[-1], seen[-1])
  assert rest[-1].trace.level.shape == (10,)


def test_images_do_not_see_each_other(toy, key):
  x = toy.draw(key, 4)
  plan = schedule(6)
  found = estimate(toy, key, x, plan, num_chains=3)
  alone = estimate(toy, key, x[:2], plan, num_chains=3)
  np.testing.assert_allclose(alone, found[:2], rtol=1e-5)


def test_step_sizes_may_differ_by_image(toy, key):
  x = toy.draw(key, 2)
  plan = schedule(6)
  angles = np.stack([plan.angles, 0.5 * plan.angles], 1)
  both = estimate(toy, key, x, plan._replace(angles=angles), num_chains=3)
  np.testing.assert_allclose(
    both[0], estimate(toy, key, x, plan, num_chains=3)[0], 1e-5
  )
  other = plan._replace(angles=0.5 * plan.angles)
  np.testing.assert_allclose(
    both[1], estimate(toy, key, x, other, num_chains=3)[1], 1e-5
  )


def test_backwards_is_the_same_way():
  plan = schedule(4)
  plan = plan._replace(angles=np.arange(5.0))
  there, back = plan.legs(), plan.backwards().legs()
  np.testing.assert_array_equal(there.before, back.after[::-1])
  np.testing.assert_array_equal(there.angle, [1, 2, 3, 4])
  np.testing.assert_array_equal(back.angle, [3, 2, 1, 0])
  np.testing.assert_array_equal(back.before, plan.betas[:0:-1])


@pytest.mark.parametrize("far", [1.0, 1e3])
def test_extreme_likelihoods_are_finite(toy, key, far):
  tight = toy.with_output_variance(1e-4)
  found = estimate(tight, key, far * toy.draw(key, 3), schedule(20), num_chains=1)
  assert np.all(np.isfinite(found))


@pytest.mark.parametrize("name", ["num_chains", "chunk_size"])
def test_counts_below_one_are_refused(toy, key, name):
  with pytest.raises(UserError, match=f"{name} is 0"):
    estimate(toy, key, toy.draw(key, 2), schedule(3), **{name: 0})
