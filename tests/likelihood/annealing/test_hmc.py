import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax.likelihood.annealing import hmc


def bumpy(q):
  """A likelihood without symmetry, [B, ...] -> [B]."""
  flat = q.reshape(len(q), -1)
  return jnp.sin(2 * flat).sum(1) - (flat[:, 0] * flat[:, -1]) ** 2


def narrow(q):
  """Gaussian: a posterior with mean 0.9 and variance 0.1 at beta = 1."""
  return -0.5 * 9 * jnp.square(q - 1.0).reshape(len(q), -1).sum(1)


def at(evaluate, key, shape):
  point = hmc.start(evaluate, jax.random.normal(key, shape))
  return point._replace(momentum=jax.random.normal(jax.random.fold_in(key, 1), shape))


def turned(point):
  return point._replace(momentum=-point.momentum)


def test_gradient_is_per_row(key, x64):
  q = jax.random.normal(key, (3, 2))
  values, gradient = hmc.with_gradient(bumpy)(q)
  np.testing.assert_allclose(values, bumpy(q))
  for row in range(3):
    one = jax.grad(lambda r: bumpy(r[None])[0])(q[row])
    np.testing.assert_allclose(gradient[row], one)


def test_leapfrog_is_its_own_inverse(key):
  evaluate = hmc.with_gradient(bumpy)
  start = at(evaluate, key, (5, 2, 3))
  angle = jnp.linspace(0.05, 0.3, 5)[:, None, None]
  step = jax.jit(lambda p: hmc.leapfrog(evaluate, p, 0.7, angle))
  point = start
  for _ in range(10):
    point = step(point)
  assert np.abs(point.position - start.position).min(initial=9, where=True) > 1e-4
  point = turned(point)
  for _ in range(10):
    point = step(point)
  for found, expected in zip(turned(point), start, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_leapfrog_preserves_volume(key, x64):
  evaluate = hmc.with_gradient(bumpy)
  angle = jnp.array([[0.5, 0.9]])

  def flow(state):
    point = hmc.start(evaluate, state[None, :2])._replace(momentum=state[None, 2:])
    point = hmc.leapfrog(evaluate, point, 0.7, angle)
    return jnp.concatenate([point.position[0], point.momentum[0]])

  jacobian = jax.jacobian(flow)(jax.random.normal(key, (4,)))
  assert not np.allclose(jacobian, np.eye(4), atol=0.1)
  np.testing.assert_allclose(np.linalg.det(jacobian), 1.0, rtol=1e-10)


def test_leapfrog_is_of_second_order(key, x64):
  evaluate = hmc.with_gradient(bumpy)
  start = at(evaluate, key, (20, 2))

  def drift(num_steps):
    point = start
    for _ in range(num_steps):
      point = hmc.leapfrog(evaluate, point, 0.7, 0.2 / num_steps)
    return np.abs(hmc.energy(point, 0.7) - hmc.energy(start, 0.7)).mean()

  assert 3.5 < drift(8) / drift(16) < 4.5


def test_without_a_likelihood_it_is_exact(key):
  evaluate = hmc.with_gradient(bumpy)
  start = at(evaluate, key, (6, 3))
  point = hmc.leapfrog(evaluate, start, 0.0, 1.3)
  energies = [hmc.energy(p, 0.0) for p in (start, point)]
  np.testing.assert_allclose(*energies, rtol=1e-5)
  quarter = hmc.leapfrog(evaluate, start, 0.0, np.pi / 2)
  np.testing.assert_allclose(quarter.position, start.momentum, atol=1e-6)


def moments_after(key, num_moves, start, angle, num_leapfrog, persistence):
  evaluate = hmc.with_gradient(narrow)
  options = {"num_leapfrog": num_leapfrog, "persistence": persistence}

  def body(point, move):
    return hmc.move(
      jax.random.fold_in(key, move), evaluate, point, 1.0, angle, **options
    )

  point, acceptance = jax.jit(
    lambda q: jax.lax.scan(body, hmc.start(evaluate, q), jnp.arange(num_moves))
  )(start)
  return np.asarray(point.position, np.float64), np.asarray(acceptance)


@pytest.mark.parametrize("num_leapfrog, persistence", [(1, 0.0), (3, 0.0), (1, 0.9)])
def test_a_gaussian_posterior_is_left_as_it_is(key, num_leapfrog, persistence):
  count = 40000
  # So large a step that without rejections the variance would be far off.
  noise = jax.random.normal(jax.random.fold_in(key, 9), (count, 1))
  start = 0.9 + np.sqrt(0.1) * noise
  q, acceptance = moments_after(key, 30, start, 0.55, num_leapfrog, persistence)
  assert 0.5 < acceptance.mean() < 0.97
  z = (q - 0.9) / np.sqrt(0.1)
  error = 4 / np.sqrt(count)
  assert abs(z.mean()) < error
  assert abs((z**2).mean() - 1) < np.sqrt(2) * error
  assert abs((z**3).mean()) < np.sqrt(15) * error
  assert abs((z**4).mean() - 3) < np.sqrt(96) * error


@pytest.mark.parametrize("num_leapfrog, persistence", [(3, 0.0), (1, 0.8)])
def test_a_gaussian_posterior_is_found(key, num_leapfrog, persistence):
  start = jnp.full((20000, 1), -3.0)
  q, _ = moments_after(key, 80, start, 0.4, num_leapfrog, persistence)
  np.testing.assert_allclose(q.mean(), 0.9, atol=0.02)
  np.testing.assert_allclose(q.var(), 0.1, rtol=0.05)


def test_rejections_stay_and_turn_round(key):
  evaluate = hmc.with_gradient(narrow)
  start = at(evaluate, key, (4000, 1))
  point, probability = hmc.move(key, evaluate, start, 1.0, 0.7, persistence=1.0)
  stayed = np.ravel(point.position == start.position)
  assert abs(stayed.mean() - (1 - probability.mean())) < 0.03
  assert 0.1 < stayed.mean() < 0.9
  np.testing.assert_array_equal(point.momentum[stayed], -start.momentum[stayed])
  np.testing.assert_allclose(
    point.log_likelihood, narrow(point.position), rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize("bad", [jnp.nan, -jnp.inf, jnp.inf])
def test_leaving_the_numbers_is_rejected(key, bad):
  def walled(q):
    return jnp.where(q[:, 0] > 0.5, bad, 0.0 * q[:, 0])

  evaluate = hmc.with_gradient(walled)
  start = hmc.start(evaluate, jnp.full((500, 1), 0.4))
  point, probability = hmc.move(key, evaluate, start, 1.0, 0.5)
  assert np.all(np.isfinite(point.position)) and np.all(point.position <= 0.5)
  assert np.all(np.isfinite(point.log_likelihood))
  assert 0.1 < probability.mean() < 0.9


def test_every_chain_has_its_own_stream(key):
  evaluate = hmc.with_gradient(narrow)
  keys = jax.random.split(key, 4)
  start = hmc.start(evaluate, jnp.zeros((4, 2)))
  run = functools.partial(hmc.move, beta=0.5, angle=0.3, evaluate=evaluate)
  whole, _ = run(keys, point=start)
  part, _ = run(keys[2:], point=jax.tree.map(lambda leaf: leaf[2:], start))
  np.testing.assert_allclose(part.position, whole.position[2:], rtol=1e-6)
