import dataclasses

import jax
import numpy as np
import pytest
import toys

from infusion_jax import UserError
from infusion_jax.likelihood.annealing import driver
from infusion_jax.likelihood.annealing.driver import Annealing
from infusion_jax.likelihood.annealing.estimator import Moves
from infusion_jax.likelihood.annealing.sandwich import Sandwich

SHORT = Annealing(num_legs=12, num_chains=2, chunk_size=4)


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=2)


@pytest.fixture(scope="module")
def images(toy):
  return np.asarray(toy.draw(jax.random.key(1), 5))


def batches(toy, key, images, settings=SHORT, **options):
  return driver.anneal_batches(key, toy.markov(), images, settings, **options)


def test_a_data_set_is_estimated(toy, key, images):
  settings = Annealing(num_legs=60, num_chains=8, chunk_size=60)
  found = np.zeros((2, 5))
  for batch in batches(toy, key, images, settings, repetitions=2):
    if batch.stage.finished:
      rows = slice(batch.first, batch.first + batch.size)
      found[batch.repetition, rows] = batch.estimate
  np.testing.assert_allclose(found, [toy.log_likelihood(images)] * 2, atol=0.4)
  assert not np.any(found[0] == found[1])


def test_each_image_is_annealed_given_its_own_label(toy, key):
  labels = np.array([0, 1, 1, 0, 2], np.int32)
  given = [toy.given(label) for label in labels]
  x = np.concatenate([each.draw(key, 1) for each in given])
  exact = [each.log_likelihood(x[n : n + 1])[0] for n, each in enumerate(given)]
  markov = toy.markov(transition=toy.labelled_transition)
  settings = Annealing(num_legs=60, num_chains=8, chunk_size=60)
  found = driver.anneal_batches(key, markov, x, settings, labels=labels, batch_size=3)
  values = np.concatenate([batch.estimate for batch in found])
  np.testing.assert_allclose(values, exact, atol=0.4)
  # Another label is many nats away.
  assert (abs(exact - toy.log_likelihood(x))[labels > 0] > 1.5).all()


def test_the_sandwich_is_given_labels(toy, key, monkeypatch):
  seen = []

  def bounds(keys, model, simulated, *_, **options):
    seen.append((model.transition.keywords, simulated.x))
    return Sandwich(np.zeros(len(keys)), np.zeros(len(keys)))

  monkeypatch.setattr(driver, "bounds", bounds)
  monkeypatch.setattr(driver, "_tuned", lambda *_: None)
  markov, labels = toy.markov(transition=toy.labelled_transition), np.array([1, 0, 2])
  for told in (labels, None):
    driver.evaluate_sandwich(
      key, markov, SHORT, num_images=3, batch_size=2, labels=told
    )
  keywords, images = zip(*seen, strict=True)
  np.testing.assert_array_equal(keywords[0]["label"], [1, 0])
  np.testing.assert_array_equal(keywords[1]["label"], [2])
  assert not keywords[2] and not keywords[3]
  shift = toy.given(1).marginal(2).mean - toy.marginal(2).mean
  moved = np.concatenate(images[:2]) - np.concatenate(images[2:])
  np.testing.assert_allclose(moved, labels[:, None, None, None] * shift, atol=1e-5)


def test_the_sandwich_holds(toy, key):
  found = driver.evaluate_sandwich(
    key,
    toy.markov(),
    Annealing(num_legs=20, num_chains=1),
    num_images=300,
    batch_size=150,
  )
  assert found.lower.shape == found.upper.shape == (300,)
  assert found.gap.mean > 4 * found.gap.standard_error


def test_a_killed_run_goes_on(toy, key, images):
  whole = list(batches(toy, key, images, batch_size=3))
  assert [batch.first for batch in whole] == [0, 0, 0, 3, 3, 3]
  assert [batch.size for batch in whole] == [3, 3, 3, 2, 2, 2]
  cut = whole[3].stage
  rest = list(
    batches(toy, key, images, batch_size=3, skip=lambda r, first: first < 3, resume=cut)
  )
  assert len(rest) == 2
  assert not rest[0].stage.finished and rest[-1].stage.finished
  np.testing.assert_array_equal(rest[-1].estimate, whole[-1].estimate)
  assert rest[-1].estimate.shape == (2,)


def test_a_finished_run_is_there_at_once(toy, key, images):
  *_, last = batches(toy, key, images)
  (again,) = batches(toy, key, images, resume=last.stage)
  np.testing.assert_array_equal(again.estimate, last.estimate)


@pytest.mark.parametrize("change", [{"num_legs": 13}, {"num_chains": 1}])
def test_a_run_with_other_settings_is_not_resumed(toy, key, images, change):
  *_, last = batches(toy, key, images)
  other = dataclasses.replace(SHORT, **change)
  with pytest.raises(UserError, match="12 temperatures, 5 images and 2 chains"):
    list(batches(toy, key, images, other, resume=last.stage))


def test_the_estimate_is_the_mean_weight(toy, key, images):
  *_, last = batches(toy, key, images)
  weights = last.stage.log_weights
  assert weights.shape == (5, 2)
  expected = np.log(np.exp(weights.astype(np.float64)).mean(1))
  np.testing.assert_allclose(last.estimate, expected, rtol=1e-5)


def test_adaptive_temperatures_are_the_batchs_own(toy, key, images):
  settings = dataclasses.replace(SHORT, temperatures="adaptive")
  *_, last = batches(toy, key, images, settings)
  betas = last.stage.schedule.betas
  assert betas.shape == (13,) and betas[0] == 0 and betas[-1] == 1
  assert np.all(np.diff(betas) > 0)
  assert not np.allclose(betas, SHORT.betas(), atol=0.01)


def test_integers_are_dequantized(toy, key):
  images = np.full((2, 2, 2, 1), 1, np.uint8)
  *_, one = batches(toy, key, images, levels=2)
  assert np.all(np.isfinite(one.estimate)) and one.estimate[0] != one.estimate[1]
  with pytest.raises(UserError, match="levels is None"):
    list(batches(toy, key, images))


@pytest.mark.parametrize(
  "change, named",
  [
    ({"num_legs": 1}, "temperatures is 1"),
    ({"num_chains": 0}, "num_chains is 0"),
    ({"pilot_chains": 0}, "pilot_chains is 0"),
    ({"temperatures": "adaptive", "pilot_chains": 1}, "adaptive"),
    ({"chunk_size": 0}, "chunk_size is 0"),
    ({"temperatures": "cubic"}, "'cubic'"),
    ({"moves": Moves(0)}, "num_leapfrog is 0"),
    ({"moves": Moves(1, 1.5)}, r"persistence is 1\.5"),
    ({"acceptance": 1.0}, r"acceptance is 1\.0"),
  ],
)
def test_impossible_settings_are_refused_at_once(change, named):
  with pytest.raises(UserError, match=named):
    Annealing(**change)
