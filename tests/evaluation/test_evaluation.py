"""Measuring: protocols, what is kept, what is found again."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import runs

from infusion_jax import evaluation
from infusion_jax.config import ChainConfig, Config, DataConfig
from infusion_jax.errors import UserError
from infusion_jax.evaluation import (
  METRICS,
  Measurement,
  Parts,
  Protocol,
  Report,
  Session,
  likelihoods,
)
from infusion_jax.evaluation.session import PARTS_FILE
from infusion_jax.model import load
from infusion_jax.storage import files
from infusion_jax.training import loop

SMALL = Protocol(num_images=20, num_chains=3, repetitions=2, num_samples=30)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("evaluated") / "run"
  loop.fit(runs.config(num_epochs=1), runs.dataset(), folder, progress=False)
  return load(folder)


def session(model, folder, protocol=SMALL):
  return Session(model, runs.dataset(), protocol, folder, progress=False)


def test_bound_is_below_importance_and_its_terms_add_up(model, tmp_path):
  one = session(model, tmp_path)
  (bound,), (importance,) = (METRICS[name](one) for name in ("bound", "importance"))
  assert bound.value < importance.value
  parts = [bound.details[n] for n in ("prior", "per_step", "reconstruction")]
  np.testing.assert_allclose(sum(parts), bound.value, rtol=1e-5)
  for row in (bound, importance):
    assert row.protocol["split"] == "test"
    assert row.protocol["num_images"] == 20
    assert row.protocol["num_chains"] == 3
    assert row.unit == "nats per image"
    assert row.standard_error > 0
    assert row.deviation > 0
  assert 1.0 <= importance.details["median_ess"] <= 3.0


def test_an_interrupted_estimate_goes_on_where_it_was(model, tmp_path, monkeypatch):
  def estimates(folder):
    one = session(model, folder)
    return likelihoods.estimates(one, one.markov, "chains")

  (tmp_path / "whole").mkdir()
  whole = estimates(tmp_path / "whole")
  measured = likelihoods.likelihood.estimate_batches

  def cut_short(*args, **options):
    for count, item in enumerate(measured(*args, **options)):
      if count == 1:
        raise KeyboardInterrupt
      yield item

  with monkeypatch.context() as patch:
    patch.setattr(likelihoods.likelihood, "estimate_batches", cut_short)
    with pytest.raises(KeyboardInterrupt):
      estimates(tmp_path)
  path = tmp_path / PARTS_FILE
  with path.open("a") as stream:
    stream.write('\n{"key": "torn')
  resumed = estimates(tmp_path)
  for name, values in whole.items():
    assert values.shape == (2, 20)
    np.testing.assert_array_equal(resumed[name], values)
  # Two batches of each of two repetitions: one was there, three were added.
  assert len(files.read_json_lines(path)) == 1 + 3


def test_pieces_of_another_model_are_not_found(tmp_path):
  path = tmp_path / "parts.jsonl"
  first = Parts(path, "one model")
  first.add(first.key(name="x"), {"value": 1})
  assert Parts(path, "one model").get(first.key(name="x")) == [{"value": 1}]
  other = Parts(path, "another")
  assert other.get(other.key(name="x")) == []


def test_parzen_uses_the_whole_split_and_names_its_protocol(model, tmp_path):
  (row,) = METRICS["parzen"](session(model, tmp_path))
  assert row.protocol["num_samples"] == 30
  assert row.protocol["sigma"] == 0.17
  assert np.isfinite(row.value)
  chosen = dataclasses.replace(SMALL, sigma=0.0)
  (row,) = METRICS["parzen"](session(model, tmp_path, chosen))
  assert row.protocol["chosen_on_validation"]
  assert row.protocol["sigma"] in row.details["sigmas"]


def test_measurements_are_kept_and_found_under_their_protocol(tmp_path):
  row = Measurement("bound", 1.0, 0.1, None, "nats per image", {"split": "test"})
  Report(tmp_path, "weights").add("bound", SMALL, [row])
  report = Report(tmp_path, "weights")
  (found,) = report.finished("bound", SMALL)
  assert found["value"] == 1.0
  assert report.finished("bound", dataclasses.replace(SMALL, seed=1)) == []
  assert report.finished("importance", SMALL) == []
  assert Report(tmp_path, "other weights").finished("bound", SMALL) == []
  train = dataclasses.replace(SMALL, split="train")
  report.add("bound", train, [dataclasses.replace(row, value=2.0)])
  stored = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
  assert stored["bound"]["value"] == 1.0
  assert stored["train/bound"]["value"] == 2.0


def test_something_else_of_the_same_name_is_left_alone(tmp_path):
  (tmp_path / "evaluation.json").write_text("my notes")
  with pytest.raises(UserError, match="is not an evaluation"):
    Report(tmp_path, "weights")
  assert (tmp_path / "evaluation.json").read_text() == "my notes"


def test_statistics_of_the_training_set_are_computed_where_missing(model):
  finished = evaluation.with_population_statistics(model, runs.dataset())
  assert finished is model
  running = dataclasses.replace(model, about={**model.about, "statistics": "running"})
  computed = evaluation.with_population_statistics(running, runs.dataset())
  assert computed.about["statistics"] == "population"
  # The same averages as at the end of training, but for the noise.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=0.2),
    computed.weights.statistics,
    model.weights.statistics,
  )


def test_metrics_are_checked_before_anything_is_measured():
  assert evaluation.check_metrics([" bound ", "parzen"]) == ["bound", "parzen"]
  with pytest.raises(UserError, match="metric is 'beauty'; allowed are bound"):
    evaluation.check_metrics(["bound", "beauty"])
  with pytest.raises(UserError, match="empty"):
    evaluation.check_metrics([""])


def test_protocols_are_checked():
  with pytest.raises(UserError, match="num_chains is 0"):
    Protocol(num_chains=0)
  with pytest.raises(UserError, match="sigma is -1"):
    Protocol(sigma=-1.0)
  assert Protocol(num_images=0).num_images == 0


A1, BEST = "table A.1", "table 3.1, T = 15, ω = 0.01"


@pytest.mark.parametrize(
  ("metric", "chain", "expected"),
  [
    ("bound", {}, (1350.598, 0.079, "table 3.1")),
    ("train/importance", {}, (1837.56, 1.074, "table 3.1")),
    ("parzen", {}, (312.0, 1.7, "figure 3.4")),
    ("bound", {"num_steps": 5, "omega": 0.1}, (1448.66, None, f"{A1}, T = 5, ω = 0.1")),
    ("bound", {"omega": 0.02}, (1066.6, None, f"{A1}, T = 15, ω = 0.02")),
    ("bound", {"omega": 0.03}, (609.1, None, f"{A1}, T = 15, ω = 0.03")),
    ("bound", {"alpha0": 0.06, "omega": 0.0}, None),
    ("bound", {"num_steps": 5, "omega": 0.11}, None),
    (
      "bound",
      {"num_steps": 1, "alpha0": 0.3, "omega": 0.0},
      (1209.39, None, f"{A1}, T = 1, α = 0.3"),
    ),
    ("importance", {"num_steps": 5, "omega": 0.1}, (1836.27, 0.551, BEST)),
    ("importance", {"omega": 0.02}, (1836.27, 0.551, BEST)),
    (
      "bound",
      {"infusion": "interpolation"},
      (1351.03, None, f"{A1}, T = 15, ω = 0.01, mixture"),
    ),
    ("ais", {}, None),
    ("bound", {"states": "bernoulli"}, None),
  ],
)
def test_published_values_name_what_they_belong_to(metric, chain, expected):
  config = Config(data=DataConfig(name="mnist"), chain=ChainConfig(**chain))
  assert evaluation.published("mnist", metric, config) == expected
  assert evaluation.published("digits", metric, config) is None


def test_weights_are_told_apart(model):
  moved = jax.tree.map(lambda leaf: leaf + 1e-3, model.weights.parameters)
  other = dataclasses.replace(model, weights=model.weights._replace(parameters=moved))
  assert evaluation.identity(model) == evaluation.identity(model)
  assert evaluation.identity(model) != evaluation.identity(other)
