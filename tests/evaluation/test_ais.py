"""Annealed importance sampling as a metric: resumed, protocolled, sandwiched."""

import dataclasses

import jax
import numpy as np
import pytest
import runs

from infusion_jax import evaluation
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.evaluation import ais as annealing
from infusion_jax.likelihood.annealing import driver
from infusion_jax.likelihood.annealing.sandwich import Sandwich
from infusion_jax.model import load
from infusion_jax.training import loop

#: Two compiled calls of 50 temperatures a batch, two batches, two repetitions.
SMALL = Protocol(
  num_images=20,
  num_chains=20,
  repetitions=2,
  search_images=4,
  search_chains=4,
  temperatures=100,
  ais_images=18,
  ais_chains=2,
  sandwich=True,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("annealed") / "run"
  loop.fit(runs.config(num_epochs=2), runs.dataset(), folder, progress=False)
  return load(folder)


def session(model, folder, protocol=SMALL):
  return Session(model, runs.dataset(), protocol, folder, progress=False)


@pytest.fixture(scope="module")
def measured(model, tmp_path_factory):
  return evaluation.METRICS["ais"](session(model, tmp_path_factory.mktemp("whole")))


def test_the_protocol_is_named(measured):
  found, gap = measured
  assert (found.name, gap.name) == ("ais", "ais_gap")
  assert found.unit == gap.unit == "nats per image"
  assert found.protocol["num_images"] == 18
  assert found.protocol["temperatures"] == 100
  assert found.protocol["num_chains"] == 2
  assert found.protocol["dequantization"] == "uniform, 1/17"
  assert found.standard_error > 0
  assert found.deviation > 0
  assert gap.protocol["split"] == "simulated from the model"
  np.testing.assert_allclose(
    gap.value, gap.details["upper"] - gap.details["lower"], atol=1e-3
  )


def test_temperatures_are_taken_until_the_gap_is_reached(model, tmp_path, monkeypatch):
  """What was tried before a kill is not tried again."""
  protocol = dataclasses.replace(
    SMALL, temperatures=25, ais_images=4, repetitions=1, ais_gap=40.0
  )
  asked = []

  def sandwich(key, markov, settings, **options):
    asked.append(settings.num_legs)
    upper = np.full(4, 2500.0 / settings.num_legs) + np.arange(4)
    return Sandwich(np.arange(4.0), upper)

  monkeypatch.setattr(driver, "evaluate_sandwich", sandwich)
  found, gap = evaluation.METRICS["ais"](session(model, tmp_path, protocol))
  # 100 nats at 25 temperatures: three times as many make 33.
  assert asked == [25, 75]
  assert found.protocol["temperatures"] == gap.protocol["temperatures"] == 75
  assert gap.value == pytest.approx(2500 / 75)
  assert gap.details["reached"]
  assert [row["num_legs"] for row in gap.details["tries"]] == asked
  again = evaluation.METRICS["ais"](session(model, tmp_path, protocol))
  assert asked == [25, 75] and again[1].value == gap.value


def test_a_search_ends_at_the_most_temperatures_that_are_allowed(monkeypatch):
  monkeypatch.setattr(
    driver, "evaluate_sandwich", lambda *_, **__: Sandwich(np.zeros(2), np.ones(2))
  )
  settings = driver.Annealing(num_legs=10)
  key = jax.random.key(0)
  found = list(driver.tries(key, None, settings, 0.5, most_legs=50))
  assert [row.num_legs for row in found] == [10, 24, 50]
  rest = list(driver.tries(key, None, settings, 0.5, most_legs=50, known=found[:2]))
  assert [row.num_legs for row in rest] == [50]


def test_it_is_no_lower_than_importance_sampling(model, measured, tmp_path):
  (importance,) = evaluation.METRICS["importance"](session(model, tmp_path))
  # Both are lower bounds in expectation; the annealed one is the tighter.
  assert measured[0].value > importance.value - 0.5
  assert -0.5 < measured[1].value < 5.0


@pytest.mark.parametrize("cut", [0, 5])
def test_a_killed_annealing_goes_on_and_ends_with_the_same_numbers(
  model, measured, tmp_path, monkeypatch, cut
):
  anneal = driver.anneal_batches

  def killed(*args, **options):
    for count, batch in enumerate(anneal(*args, **options)):
      yield batch
      if count == cut:
        raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(driver, "anneal_batches", killed)
    with pytest.raises(KeyboardInterrupt):
      evaluation.METRICS["ais"](session(model, tmp_path))
  # The stage of a batch that is finished stays until the next one has its first.
  assert len(list(tmp_path.glob("*.npz"))) == 1

  calls = []

  def counted(*args, **options):
    for batch in anneal(*args, **options):
      calls.append((batch.repetition, batch.first))
      yield batch

  monkeypatch.setattr(driver, "anneal_batches", counted)
  found, _ = evaluation.METRICS["ais"](session(model, tmp_path))
  assert len(calls) == 8 - (cut + 1)
  assert found.value == measured[0].value
  assert found.standard_error == measured[0].standard_error
  assert not list(tmp_path.glob("*.npz"))


def test_a_damaged_stage_is_not_used(model, tmp_path):
  stage, path = stage_of(model, tmp_path), tmp_path / "stage.npz"
  stages = annealing.Stages(path, "key")
  stages.write(1, 16, stage)
  jax.tree.map(np.testing.assert_array_equal, stages.read(1, 16), stage)
  content = path.read_bytes()
  for damaged in (b"PK\x03\x04 torn", content[:-30], b""):
    path.write_bytes(damaged)
    assert stages.read(1, 16) is None
  path.unlink()
  assert stages.read(1, 16) is None


def test_a_stage_of_something_else_is_not_used(model, tmp_path):
  stages = annealing.Stages(tmp_path / "stage.npz", "key")
  stages.write(1, 16, stage_of(model, tmp_path))
  assert stages.read(1, 0) is None
  assert stages.read(0, 16) is None
  assert annealing.Stages(stages.path, "other").read(1, 16) is None
  assert stages.read(1, 16) is not None


def stage_of(model, folder):
  """The first stage of some annealing."""
  one = session(model, folder)
  settings = driver.Annealing(num_legs=60, num_chains=1)
  images = one.images[:2]
  batches = driver.anneal_batches(
    one.key("stage"), one.markov, images, settings, levels=17
  )
  return next(iter(batches)).stage


def test_the_annealed_images_are_a_random_subset_of_the_seed(model, tmp_path):
  """The same for every metric, and a small subset lies within a large one."""
  one = session(model, tmp_path)
  whole, few = one.chosen(0), one.chosen(5)
  np.testing.assert_array_equal(whole, runs.dataset().test)
  np.testing.assert_array_equal(few, one.chosen(9)[:5])
  rows = [next(i for i, x in enumerate(whole) if (x == row).all()) for row in few]
  assert len(set(rows)) == 5 and rows != sorted(rows)
  other = session(model, tmp_path, dataclasses.replace(SMALL, seed=1))
  assert not (other.chosen(5) == few).all()
  part = session(model, tmp_path, dataclasses.replace(SMALL, num_images=5))
  np.testing.assert_array_equal(part.images, few)
  assert one.described(few)["choice"] == "random subset"
  assert one.described(whole)["choice"] == "all images"


def test_the_isotropic_output_is_annealed_too(model, tmp_path):
  found, gap = evaluation.METRICS["ais_isotropic"](session(model, tmp_path))
  assert (found.name, gap.name) == ("ais_isotropic", "ais_isotropic_gap")
  assert found.protocol["output_variance"] > 0
  assert np.isfinite(found.value)
