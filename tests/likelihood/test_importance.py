import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.tree_util import Partial

from infusion_jax import UserError, objectives
from infusion_jax.likelihood import importance

RATES = np.array([0.0, 0.2, 0.4])


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=3)


@pytest.fixture(scope="module")
def x(toy):
  return toy.draw(jax.random.key(1), 5)


def estimate(toy, key, x, rates=RATES, **options):
  keys = importance.image_keys(key, np.arange(len(x)))
  return importance._estimate(keys, toy.markov(rates), x, **options)


def test_weights_are_those_of_the_bound(toy, key, x):
  keys = importance.image_keys(key, np.arange(len(x)))
  markov = toy.markov(RATES)
  found = importance.log_weights(keys, markov, x, jnp.array([3, 1]))
  assert found.prior.shape == (5, 2)
  assert found.per_step.shape == (2, 5, 2)
  rows = importance.chain_keys(keys, jnp.array([1]))[:, 0]
  one, _ = objectives.bound(rows, markov, x)
  np.testing.assert_allclose(found.bound[:, 1], one.bound, rtol=1e-5)


def test_estimates_are_those_of_all_weights_at_once(toy, key, x):
  k = 50
  keys = importance.image_keys(key, np.arange(len(x)))
  weights = importance.log_weights(keys, toy.markov(RATES), x, jnp.arange(k))
  logs = np.asarray(weights.bound, np.float64)
  w = np.exp(logs)
  found = estimate(toy, key, x, num_chains=k, chunk_size=16)
  np.testing.assert_allclose(found.bound, logs.mean(1), rtol=1e-5)
  np.testing.assert_allclose(found.importance, np.log(w.mean(1)), rtol=1e-5)
  np.testing.assert_allclose(found.ess, w.sum(1) ** 2 / np.square(w).sum(1), rtol=1e-4)
  for mean, values in zip(found.terms, weights, strict=True):
    np.testing.assert_allclose(mean, values.mean(-1), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found.terms.bound, found.bound)


@pytest.mark.parametrize("chunk_size", [1, 7, 64, 1000])
def test_chunk_size_does_not_matter(toy, key, x, chunk_size):
  found = estimate(toy, key, x, num_chains=64, chunk_size=chunk_size)
  whole = estimate(toy, key, x, num_chains=64, chunk_size=32)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5), found, whole)


def test_batch_size_and_repetition(toy, key, x):
  run = functools.partial(
    importance.evaluate,
    key,
    toy.markov(RATES),
    np.asarray(x),
    num_chains=8,
  )
  found = run(repetitions=2, batch_size=2)
  assert found.bound.shape == (2, 5)
  assert found.terms.per_step.shape == (2, 2, 5)
  whole = run(repetitions=1, batch_size=100)
  np.testing.assert_allclose(found.importance[:1], whole.importance, rtol=1e-5)
  assert not np.any(found.importance[0] == found.importance[1])


def test_bound_and_estimate_against_the_exact_density(toy, key):
  x = toy.draw(jax.random.key(2), 64)
  exact = toy.log_likelihood(x)
  found = estimate(toy, key, x, num_chains=4000, chunk_size=500)
  np.testing.assert_allclose(found.importance, exact, atol=0.3)
  assert abs((found.importance - exact).mean()) < 0.02
  assert np.all(found.bound < exact)
  assert np.all((found.ess > 1) & (found.ess < 4000))


def test_estimate_is_unbiased_and_grows_with_k(toy, key):
  x = jnp.repeat(toy.draw(jax.random.key(3), 1), 4000, axis=0)
  exact = toy.log_likelihood(x[:1])[0]
  means = []
  for k in (1, 4, 16):
    found = estimate(toy, key, x, num_chains=k)
    ratio = np.exp(np.asarray(found.importance, np.float64) - exact)
    error = ratio.std() / np.sqrt(len(x))
    assert error < 0.2
    assert abs(ratio.mean() - 1) < 4 * error
    means.append(found.importance.mean())
  # Below log p(x) in expectation, and closer with more chains.
  assert means[0] + 0.05 < means[1]
  assert means[1] + 0.02 < means[2] < exact


def test_rate_zero_gives_the_bound_without_infusion(toy, key, x):
  found = estimate(toy, key, x, np.zeros(3), num_chains=20000, chunk_size=4000)
  exact = toy.bound_without_infusion(x)
  np.testing.assert_allclose(found.bound, exact, atol=0.03 * np.abs(exact).max())
  np.testing.assert_array_equal(found.terms.prior, 0)
  np.testing.assert_array_equal(found.terms.per_step, 0)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("far", [1.0, 1e3])
@pytest.mark.parametrize("num_chains", [1, 3])
def test_extreme_values_are_finite(toy, key, x, rate, far, num_chains):
  tight = toy._replace(
    steps=toy.steps._replace(variance=jnp.full_like(toy.steps.variance, 1e-4))
  )
  found = estimate(tight, key, far * x, np.full(3, rate), num_chains=num_chains)
  jax.tree.map(lambda v: np.testing.assert_(np.all(np.isfinite(v))), found)
  assert np.all((found.ess >= 1 - 1e-6) & (found.ess <= num_chains + 1e-6))
  if num_chains == 1:
    np.testing.assert_allclose(found.bound, found.importance, rtol=1e-6)


def test_one_step(key):
  toy = toys.linear_gaussian(num_steps=1)
  x = toy.draw(jax.random.key(1), 3)
  found = estimate(toy, key, x, np.array([0.3]), num_chains=3000, chunk_size=1000)
  assert found.terms.per_step.shape == (0, 3)
  np.testing.assert_allclose(found.importance, toy.log_likelihood(x), atol=0.3)


def test_memory_does_not_grow_with_k(toy, key, x):
  def bytes_of(k, chunk_size=20):
    return toys.temporary_bytes(
      lambda x: estimate(toy, key, x, num_chains=k, chunk_size=chunk_size), x
    )

  assert bytes_of(100) == bytes_of(2000) > 0
  # The measure sees chains that are held at once.
  assert bytes_of(2000, chunk_size=2000) > 10 * bytes_of(2000)


def test_integers_are_dequantized_afresh(toy, key):
  images = np.full((3, 2, 2, 1), 5, np.uint8)
  first, second = (
    importance.targets(importance.image_keys(key, np.arange(3), r), images, 16)
    for r in (0, 1)
  )
  for x in (first, second):
    assert np.all((x * 16 >= 5) & (x * 16 <= 6))
  values = np.concatenate([np.ravel(first), np.ravel(second)])
  assert len(np.unique(values)) == values.size
  again = importance.targets(
    importance.image_keys(key, np.arange(1, 3)), images[1:], 16
  )
  np.testing.assert_array_equal(again, first[1:])


def test_real_images_are_kept(key):
  x = np.linspace(0, 1, 4, dtype=np.float32).reshape(1, 2, 2, 1)
  keys = importance.image_keys(key, np.arange(1))
  np.testing.assert_array_equal(importance.targets(keys, x, 256), x)


def test_integers_need_levels(key):
  keys = importance.image_keys(key, np.arange(1))
  with pytest.raises(UserError, match=r"levels is None .*uint8"):
    importance.targets(keys, np.zeros((1, 2, 2, 1), np.uint8), None)


def test_batches_can_be_skipped(toy, key, x):
  def run(skip=lambda repetition, first: False):
    return {
      (r, first): result.importance
      for r, first, result in importance.estimate_batches(
        key,
        toy.markov(RATES),
        np.asarray(x),
        num_chains=4,
        repetitions=2,
        batch_size=2,
        skip=skip,
      )
    }

  whole = run()
  assert list(whole) == [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (1, 4)]
  rest = run(lambda r, first: (r, first) <= (0, 2))
  assert list(rest) == [(0, 4), (1, 0), (1, 2), (1, 4)]
  for name, values in rest.items():
    np.testing.assert_array_equal(values, whole[name])


def test_progress_counts_images(toy, key, x):
  seen = []
  importance.evaluate(
    key,
    toy.markov(RATES),
    np.asarray(x),
    num_chains=2,
    repetitions=2,
    batch_size=4,
    progress=lambda done, total: seen.append((done, total)),
  )
  assert seen == [(4, 10), (5, 10), (9, 10), (10, 10)]


def test_a_partial_is_not_wrapped_again(toy):
  transition = Partial(toy.transition)
  assert toy.markov(transition=transition).transition is transition
  assert isinstance(toy.markov().transition, Partial)


def test_weights_in_a_partial_do_not_recompile(toy, key, x):
  def scaled(factor, step, z):
    p, report = toy.transition(step, z)
    return p._replace(mean=factor * p.mean), report

  run = functools.partial(
    importance.evaluate,
    key,
    images=np.asarray(x),
    num_chains=3,
  )
  first = run(markov=toy.markov(RATES, transition=Partial(scaled, jnp.float32(1.0))))
  before = importance._estimate._cache_size()
  second = run(markov=toy.markov(RATES, transition=Partial(scaled, jnp.float32(0.5))))
  assert importance._estimate._cache_size() == before
  assert not np.allclose(first.bound, second.bound)


@pytest.mark.parametrize("name", ["num_chains", "chunk_size", "repetitions"])
def test_counts_below_one_are_refused(toy, key, x, name):
  options = {"num_chains": 2, name: 0}
  with pytest.raises(UserError, match=f"{name} is 0"):
    importance.evaluate(key, toy.markov(RATES), np.asarray(x), **options)
