import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import UserError
from infusion_jax.likelihood import importance, isotropic
from infusion_jax.likelihood.annealing import estimator, temperatures

RATES = np.array([0.0, 0.1, 0.2])


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=3)


@pytest.fixture(scope="module")
def x(toy):
  return toy.draw(jax.random.key(1), 6)


def test_only_the_output_changes(toy, x):
  markov = isotropic.with_output_variance(toy.markov(), 0.7)
  for t in range(3):
    old, _ = toy.transition(jax.tree.map(lambda leaf, t=t: leaf[t], toy.steps), x)
    new, _ = markov.transition(toys.row(markov.steps, t), x)
    np.testing.assert_array_equal(new.mean, old.mean)
    expected = np.full_like(x, 0.7) if t == 2 else old.variance
    np.testing.assert_allclose(new.variance, expected)


def test_every_estimator_takes_the_isotropic_model(toy, key, x):
  exact = toy.with_output_variance(0.7).log_likelihood(x)
  markov = isotropic.with_output_variance(toy.markov(RATES), 0.7)
  found = importance.evaluate(
    key, markov, np.asarray(x), num_chains=2000, chunk_size=500
  )
  np.testing.assert_allclose(found.importance[0], exact, atol=0.2)
  betas = temperatures.geometric(40, 1e-2)
  plan = estimator.Schedule(betas, np.full(41, 0.5))
  keys = importance.image_keys(key, np.arange(len(x)))
  other = estimator.estimate(keys, markov, x, plan, num_chains=8)
  np.testing.assert_allclose(other, exact, atol=0.5)
  assert abs(np.mean(other - exact)) < 0.15


def test_another_variance_does_not_recompile(toy, key, x):
  def run(variance):
    markov = isotropic.with_output_variance(toy.markov(RATES), variance)
    return importance.evaluate(key, markov, np.asarray(x), num_chains=3)

  first = run(0.5)
  before = importance._estimate._cache_size()
  second = run(0.6)
  assert importance._estimate._cache_size() == before
  assert not np.allclose(first.bound, second.bound)


def test_scores_are_those_of_the_isotropic_model(toy, key, x):
  keys = importance.image_keys(key, np.arange(len(x)))
  variances = np.array([0.05, 0.7], np.float32)
  found = isotropic.score(
    keys, toy.markov(RATES), x, variances, num_chains=9, chunk_size=4
  )
  for row, variance in enumerate(variances):
    model = isotropic.with_output_variance(toy.markov(RATES), variance)
    one = importance.estimate(keys, model, x, num_chains=9)
    np.testing.assert_allclose(found.bound[row], one.bound, rtol=1e-4)
    np.testing.assert_allclose(found.importance[row], one.importance, rtol=1e-4)


def search(toy, key, x, **options):
  return isotropic.search_output_variance(
    key, toy.markov(RATES), np.asarray(x), **options
  )


def test_the_closed_form_maximises_the_bound(toy, key, x):
  found = search(toy, key, x, num_chains=20, batch_size=4)
  assert found.values.shape == found.bound.shape == found.importance.shape == (31,)
  assert np.all(np.diff(found.values) >= 0)
  assert found.values[found.bound.argmax()] == pytest.approx(found.closed_form)


def test_the_residual_is_the_mean_square(toy, key, x):
  found = search(toy, key, x, num_chains=20)
  keys = importance.image_keys(key, np.arange(len(x)))
  parts = isotropic.residuals(keys, toy.markov(RATES), x, jnp.arange(20))
  assert found.closed_form == pytest.approx(float(parts.squares.mean()) / 4, rel=1e-4)


def test_the_search_finds_the_exact_optimum(key):
  # At T = 1 with rate 0 and many chains the estimate is log p(x) itself.
  toy = toys.linear_gaussian(num_steps=1)
  x = toy.draw(jax.random.key(2), 200)
  grid = np.geomspace(0.02, 1.0, 200)
  exact = [toy.with_output_variance(v).log_likelihood(x).mean() for v in grid]
  found = isotropic.search_output_variance(
    key,
    toy.markov(),
    np.asarray(x),
    num_chains=1000,
    chunk_size=100,
    batch_size=200,
    variances=np.geomspace(0.01, 1.0, 9),
  )
  assert abs(np.log(found.best / grid[np.argmax(exact)])) < 0.25
  assert found.best_importance == pytest.approx(max(exact), abs=0.05)
  assert found.best_importance == found.importance.max()
  # The bound at rate 0 pays for the spread of the states: a larger variance.
  assert found.closed_form > 1.5 * found.best
  assert found.best_importance > found.closed_form_importance + 0.05


def test_the_closed_form_wins_where_the_grid_is_far_off(toy, key, x):
  found = search(toy, key, x, num_chains=1, variances=np.array([1e-6, 1e3]))
  assert found.best == found.closed_form
  assert found.best_importance == found.closed_form_importance


@pytest.mark.parametrize("variance", [0.0, -1.0, np.inf, np.nan])
def test_the_variance_must_be_positive(toy, variance):
  with pytest.raises(UserError, match="output variance is"):
    isotropic.with_output_variance(toy.markov(), variance)


def test_the_grid_must_be_positive(toy, key, x):
  with pytest.raises(UserError, match="output variance is"):
    search(toy, key, x, variances=np.array([0.1, 0.0]))


def test_at_the_floor_it_is_finite(toy, key, x):
  found = search(toy, key, 1e3 * x, num_chains=1, variances=np.array([1e-4, 1e-3]))
  jax.tree.map(lambda v: np.testing.assert_(np.all(np.isfinite(v))), found)


def test_the_variance_may_be_traced(toy, x):
  @jax.jit
  def bound(variance):
    markov = isotropic.with_output_variance(toy.markov(RATES), variance)
    keys = importance.image_keys(jax.random.key(0), np.arange(len(x)))
    return importance.estimate(keys, markov, x, num_chains=2).bound.sum()

  slope = (bound(0.501) - bound(0.499)) / 0.002
  np.testing.assert_allclose(jax.grad(bound)(0.5), slope, rtol=0.05)
