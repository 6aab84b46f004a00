"""Annealed importance sampling as a metric: resumed, protocolled, sandwiched."""

import numpy as np
import pytest
import runs

from infusion_jax import evaluation
from infusion_jax.evaluation import Parts, Protocol, Session
from infusion_jax.evaluation import ais as annealing
from infusion_jax.likelihood.annealing import driver
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


def session(model, path=None, protocol=SMALL):
  return Session(model, runs.dataset(), protocol, Parts(path), progress=False)


@pytest.fixture(scope="module")
def measured(model):
  return evaluation.METRICS["ais"](session(model))


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


def test_it_is_no_lower_than_importance_sampling(model, measured):
  (importance,) = evaluation.METRICS["importance"](session(model))
  # Both are lower bounds in expectation; the annealed one is the tighter.
  assert measured[0].value > importance.value - 0.5
  assert -0.5 < measured[1].value < 5.0


@pytest.mark.parametrize("cut", [0, 1, 2, 5])
def test_a_killed_annealing_goes_on_and_ends_with_the_same_numbers(
  model, measured, tmp_path, monkeypatch, cut
):
  path = tmp_path / "parts.jsonl"
  anneal = driver.anneal_batches

  def killed(*args, **options):
    for count, batch in enumerate(anneal(*args, **options)):
      yield batch
      if count == cut:
        raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(annealing.driver, "anneal_batches", killed)
    with pytest.raises(KeyboardInterrupt):
      evaluation.METRICS["ais"](session(model, path))
  # A batch takes two calls: after the first of them a stage is on the disk.
  assert len(list(tmp_path.glob("*.npz"))) == (cut + 1) % 2

  calls = []

  def counted(*args, **options):
    for batch in anneal(*args, **options):
      calls.append((batch.repetition, batch.first))
      yield batch

  monkeypatch.setattr(annealing.driver, "anneal_batches", counted)
  found, _ = evaluation.METRICS["ais"](session(model, path))
  assert len(calls) == 8 - (cut + 1)
  assert found.value == measured[0].value
  assert found.standard_error == measured[0].standard_error
  assert not list(tmp_path.glob("*.npz"))


def test_a_damaged_stage_is_not_used(model, measured, tmp_path):
  path = tmp_path / "parts.jsonl"
  parts = Parts(path)
  key = parts.key(name="ais", protocol=annealing.dataclasses.asdict(SMALL))
  parts.file(f"{key}.npz").write_bytes(b"PK\x03\x04 torn")
  found, _ = evaluation.METRICS["ais"](session(model, path))
  assert found.value == measured[0].value


def test_the_isotropic_output_is_annealed_too(model):
  found, gap = evaluation.METRICS["ais_isotropic"](session(model))
  assert (found.name, gap.name) == ("ais_isotropic", "ais_isotropic_gap")
  assert found.protocol["output_variance"] > 0
  assert np.isfinite(found.value)
