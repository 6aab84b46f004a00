"""Scores of samples as metrics: which networks, which images, what is named."""

import dataclasses
import json

import numpy as np
import pytest
import runs
from launching import launch

from infusion_jax import evaluation
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Protocol, Session, pictures
from infusion_jax.metrics import classifier, scores
from infusion_jax.metrics.extractors import Extractor, Predictions
from infusion_jax.model import load
from infusion_jax.training import loop

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("scored") / "run"
  loop.fit(runs.config(num_epochs=1), runs.dataset(), folder, progress=False)
  return load(folder)


class Fake:
  """A network that looks at the means of the rows, and remembers what it saw."""

  def __init__(self):
    self.seen = []

  def predict(self, images):
    self.seen.append(images)
    rows = images.mean((2, 3))
    return Predictions(rows, rows / rows.sum(1, keepdims=True))


@pytest.fixture
def fake(monkeypatch, tmp_path):
  network = Fake()
  about = {"network": "rows", "dataset": "tiny", "test_accuracy": 0.5}
  for name in ("inception", "classifier"):
    extractor = Extractor(name, network.predict, about)
    monkeypatch.setitem(pictures._LOADERS, name, lambda path, found=extractor: found)
  (tmp_path / "weights.npz").write_bytes(b"weights")
  return network


def session(model, tmp_path, **protocol):
  file = str(tmp_path / "weights.npz")
  settings = {"score_samples": 40, "splits": 4, "inception": file, "classifier": file}
  return Session(
    model, runs.dataset(), Protocol(**settings | protocol), tmp_path, progress=False
  )


def test_scores_are_those_of_the_samples(model, tmp_path, fake):
  one = session(model, tmp_path)
  found = {row.name: row for row in evaluation.METRICS["inception"](one)}
  real, samples = fake.seen
  np.testing.assert_array_equal(real, np.float32(one.dataset.test) / 17)
  assert samples.shape == (40, 4, 4, 1)
  ours, theirs = fake.predict(samples), fake.predict(real)
  expected = scores.inception_score(ours.probabilities, 4)
  pair = ours.features, theirs.features
  assert found["fid"].value == scores.frechet_distance(*pair)
  assert found["kid"].value == scores.kernel_distance(*pair).mean
  score = found["inception_score"]
  assert (score.value, score.deviation) == (expected.mean, expected.deviation)
  assert score.standard_error == expected.standard_error
  reference = scores.inception_score(theirs.probabilities, 4)
  assert score.details["real_images"] == reference.mean
  assert found["fid"].standard_error is None


def test_the_protocol_names_all_that_matters(model, tmp_path, fake):
  one = session(model, tmp_path, num_steps=7, split="train", num_images=3)
  (score, _, distance) = evaluation.METRICS["classifier"](one)
  assert score.name == "classifier_score"
  protocol = score.protocol
  assert protocol["num_samples"] == 40
  assert protocol["splits"] == 4
  assert protocol["chain_steps"] == 7
  # The whole split, however many images other metrics look at.
  assert (protocol["split"], protocol["num_images"]) == ("train", 70)
  assert protocol["extractor"]["test_accuracy"] == 0.5
  assert len(protocol["extractor_file"]) == 16
  assert distance.protocol["subsets"] == 100


def test_draws_are_another_question_than_means(model, tmp_path, fake):
  """They differ by the noise of the last step, and are cut to pictures."""
  for kind in ("means", "draws"):
    (score, *_) = evaluation.METRICS["classifier"](
      session(model, tmp_path, samples=kind)
    )
    assert score.protocol["samples"] == f"{kind} of the last transition"
  _, means, _, draws = fake.seen
  assert draws.min() >= 0.0 and draws.max() <= 1.0
  inside = (draws > 0.0) & (draws < 1.0)
  spread = np.abs(draws - means)[inside].mean()
  assert 0.01 < spread < 0.5
  with pytest.raises(UserError, match="samples is 'both'; allowed are means, draws"):
    Protocol(samples="both")


def test_one_split_has_no_error(model, tmp_path, fake):
  (score, *_) = evaluation.METRICS["inception"](session(model, tmp_path, splits=1))
  assert score.standard_error is None


def test_the_default_protocol_is_that_of_the_literature():
  assert (Protocol().score_samples, Protocol().splits) == (50_000, 10)
  assert evaluation.published("cifar10", "inception_score", Config()) == (
    4.62,
    0.06,
    "table 3.2",
  )
  # Lossy files are another data set: nothing was published of them.
  assert evaluation.published("cifar10_jpeg", "inception_score", Config()) is None


def test_too_few_samples():
  with pytest.raises(UserError, match="score_samples is 5; it must be at least 10"):
    Protocol(score_samples=5)


def test_another_network_is_another_question(model, tmp_path, fake):
  protocol = session(model, tmp_path).protocol
  report = evaluation.Report(tmp_path, "weights")
  report.add(
    "classifier", protocol, evaluation.METRICS["classifier"](session(model, tmp_path))
  )
  assert len(report.finished("classifier", protocol)) == 3
  (tmp_path / "weights.npz").write_bytes(b"other weights")
  assert report.finished("classifier", protocol) == []


@pytest.mark.parametrize(
  ("metric", "maker"),
  [
    ("inception", "experiments.convert_inception"),
    ("classifier", "experiments.train_classifier"),
  ],
)
def test_networks_are_checked_before_any_work(metric, maker, tmp_path):
  dataset = runs.dataset()
  with pytest.raises(UserError, match=f"needs --{metric}=FILE.*{maker}"):
    evaluation.check_extractors(["bound", metric], Protocol(), dataset)
  missing = Protocol(**{metric: str(tmp_path / "none.npz")})
  with pytest.raises(UserError, match=r"none\.npz: there is no such file"):
    evaluation.check_extractors([metric], missing, dataset)
  # Files that no metric asks for are not looked at.
  evaluation.check_extractors(["bound"], missing, dataset)


def test_a_classifier_of_other_images(tmp_path):
  images = np.random.default_rng(0).integers(0, 17, (8, 8, 8, 1), dtype=np.uint8)
  small = classifier.Settings(channels=(8,), epochs=1, batch_size=8)
  trained = classifier.train(images, np.arange(8) % 2, 17, small, progress=False)
  classifier.save(tmp_path / "a.npz", trained)
  protocol = Protocol(classifier=str(tmp_path / "a.npz"))
  with pytest.raises(UserError, match=r"\(4, 4, 1\); this classifier takes \(8, 8, 1"):
    evaluation.check_extractors(["classifier"], protocol, runs.dataset())
  fitting = dataclasses.replace(
    runs.dataset(), train=images, validation=images, test=images
  )
  evaluation.check_extractors(["classifier"], protocol, fitting)


def test_the_commands(tmp_path):
  """Digits: a classifier of one epoch, and the scores of few samples through it."""
  data = "--config=configs/digits.py"
  made = launch(
    "train_classifier",
    data,
    "--config.data.max_images=100",
    "--epochs=1",
    f"--out={tmp_path / 'classifier.npz'}",
  )
  assert made.returncode == 0, made.stderr
  assert "test accuracy" in made.stdout
  settings = [
    "data.max_images=100",
    "chain.num_steps=2",
    "model.hidden_sizes=(8,)",
    "train.num_epochs=1",
  ]
  overrides = [f"--config.{setting}" for setting in settings]
  workdir = f"--workdir={tmp_path / 'run'}"
  trained = launch("train", data, workdir, *overrides, "--noprogress")
  assert trained.returncode == 0, trained.stderr
  flags = ["--metrics=classifier", "--score_samples=30", "--splits=3", "--noprogress"]
  refused = launch("evaluate", workdir, *flags)
  assert refused.returncode == 2
  assert "needs --classifier=FILE" in refused.stderr
  found = launch(
    "evaluate", workdir, *flags, f"--classifier={tmp_path / 'classifier.npz'}"
  )
  assert found.returncode == 0, found.stderr
  for text in ("classifier_score", "classifier_kid", "30 samples", "3 splits"):
    assert text in found.stdout
  stored = json.loads((tmp_path / "run/evaluation.json").read_text())["metrics"]
  extractor = stored["classifier_score"]["protocol"]["extractor"]
  assert extractor["dataset"] == "digits"
  assert 1 <= stored["classifier_score"]["value"] <= 10
