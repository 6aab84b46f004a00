import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import UserError
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.annealing import temperatures, tuning
from infusion_jax.likelihood.annealing.estimator import Moves, Schedule


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=2, shape=(4, 4, 1)).with_output_variance(1e-3)


def keys_of(x):
  return importance.image_keys(jax.random.key(2), np.arange(len(x)))


def pilot(toy, x, num_legs=300, transition=None, dwell=0, **options):
  betas = temperatures.geometric(num_legs, 1e-4).astype(np.float32)
  betas = np.append(betas, np.ones(dwell, np.float32))
  base = Schedule(betas, np.full(len(betas), np.pi / 2, np.float32))
  return tuning.pilot(
    keys_of(x),
    toy.markov(transition=transition),
    x,
    base,
    **options,
  )


@pytest.mark.parametrize("wanted", [0.7, 0.9])
def test_the_acceptance_wanted_is_reached(toy, wanted):
  x = toy.draw(jax.random.key(1), 5)
  found = pilot(toy, x, num_chains=16, acceptance=wanted, gain=0.5)
  assert found.acceptance.shape == (300, 5)
  assert abs(found.acceptance[-60:].mean() - wanted) < 0.05
  # There is no need to step carefully where the likelihood counts for nothing.
  np.testing.assert_allclose(found.schedule.angles[:5], np.pi / 2, rtol=1e-5)
  assert found.schedule.angles[-1].max() < 0.5


def test_step_sizes_are_the_images_own(toy):
  # Steep where the image is bright, so that its posterior is narrow there.
  def bent(step, z):
    p, report = toy.transition(step, z)
    return p._replace(mean=jnp.where(p.mean > 0, 5 * p.mean, 0.2 * p.mean)), report

  x = jnp.stack([jnp.full((4, 4, 1), 4.0), jnp.full((4, 4, 1), -0.1)])
  found = pilot(toy, x, transition=bent, num_chains=8)
  steep, flat = found.schedule.angles[-20:].mean(0)
  assert steep < 0.5 * flat


def test_curvature_is_that_of_the_posterior():
  # One step: log p(x | eps) has curvature slope^2 s^2 / variance, exactly.
  toy = toys.linear_gaussian(num_steps=1, shape=(4, 4, 1)).with_output_variance(0.02)
  x = toy.draw(jax.random.key(1), 100)
  found = pilot(toy, x, num_chains=8, dwell=300, acceptance=0.8)
  slope, _, variance = (leaf[0] for leaf in toy.steps)
  exact = 1 + slope**2 * toy.prior.variance / variance
  assert exact.max() > 2 * exact.min() > 8
  np.testing.assert_allclose(found.curvature[0], exact, rtol=0.15)


def test_resampled_at_its_own_temperatures_is_the_same():
  betas = temperatures.geometric(20, 1e-3).astype(np.float32)
  angles = np.random.default_rng(0).uniform(0.1, 1, (21, 3)).astype(np.float32)
  angles[0] = angles[1]
  found = tuning.resampled(Schedule(betas, angles), betas)
  np.testing.assert_allclose(found.angles, angles, rtol=1e-4)
  flat = tuning.resampled(Schedule(betas, angles[:, 0]), betas)
  np.testing.assert_allclose(flat.angles, angles[:, 0], rtol=1e-4)


def test_resampled_between_temperatures():
  old = Schedule(np.array([0, 0.01, 1.0]), np.array([0.9, 0.9, 0.1]))
  found = tuning.resampled(old, np.array([0, 0.001, 0.1, 1.0]))
  np.testing.assert_allclose(found.angles, [0.9, 0.9, 0.3, 0.1], rtol=1e-5)


def test_temperatures_gather_where_the_likelihood_varies():
  betas = np.linspace(0, 1, 101)
  variance = np.where(betas[:-1] < 0.5, 9.0, 1.0)[:, None]
  unused = np.zeros((100, 1))
  schedule = Schedule(betas, np.ones((101, 1)))
  found = tuning.Pilot(schedule, unused, unused, unused, variance)
  adapted = tuning.adapted(found, 40)
  assert np.sum((adapted > 0) & (adapted <= 0.5)) == 30
  assert adapted[0] == 0 and adapted[-1] == 1


def test_one_chain_has_no_variance(toy):
  found = pilot(toy, toy.draw(jax.random.key(1), 2), num_legs=5, num_chains=1)
  np.testing.assert_array_equal(found.variance, 0)
  with pytest.raises(UserError, match="density"):
    tuning.adapted(found, 10)


def test_moves_are_those_asked_for(toy):
  x = toy.draw(jax.random.key(1), 2)
  one, three = (pilot(toy, x, num_legs=20, moves=Moves(n, 0.0)).level for n in (1, 3))
  np.testing.assert_array_equal(one[0], three[0])
  assert not np.allclose(one[5], three[5])


def test_tune_gives_a_schedule_for_every_image(toy):
  x = toy.draw(jax.random.key(1), 3)
  betas = temperatures.polynomial(40)
  found = tuning.tune(keys_of(x), toy.markov(), x, betas, coarse_legs=100)
  np.testing.assert_allclose(found.betas, betas, rtol=1e-6)
  assert found.angles.shape == (41, 3)
  assert found.scale.shape == (2, 4, 4, 1)
  # The image says more about its noise than the prior does.
  assert found.scale.max() < 1


@pytest.mark.parametrize("wanted", [0.0, 1.0])
def test_an_acceptance_out_of_reach_is_refused(toy, wanted):
  with pytest.raises(UserError, match="acceptance is"):
    pilot(toy, toy.draw(jax.random.key(1), 2), num_legs=5, acceptance=wanted)
