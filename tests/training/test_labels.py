"""Runs with labels: what they learn, how they resume, alone and in a group."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import UserError, evaluation
from infusion_jax.config import ModelConfig
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.metrics import classifier
from infusion_jax.metrics.extractors import Predictions
from infusion_jax.sweep import conductor, vmapped
from infusion_jax.training import conditioning, labels, loop, programs
from infusion_jax.training.state import initial_state, make_recipe, make_run
from infusion_jax.views import restoring


def dataset():
  """Images that are dark or bright, which is their label."""
  plain = runs.dataset()
  told = {
    split: (np.arange(len(plain.split(split))) % 2).astype(np.int32)
    for split in ("train", "validation", "test")
  }
  images = {
    split: (plain.split(split) // 4 + 12 * rows[:, None, None, None]).astype(np.uint8)
    for split, rows in told.items()
  }
  return dataclasses.replace(plain, labels=told, **images)


def config(**train):
  train = {"learning_rate": 0.01, "num_epochs": 30, "checkpoint_every": 30, **train}
  model = ModelConfig(hidden_sizes=(8,), num_classes=2)
  return dataclasses.replace(runs.config(**train), model=model)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("labels") / "run"
  loop.fit(config(), dataset(), folder, progress=False)
  return folder


@pytest.fixture(scope="module")
def model(workdir):
  return infusion_jax.load(workdir)


def test_samples_are_of_the_label_asked_for(model, key):
  told = np.array([0, 1, 1, 0, 1])
  images = model.sample(key, 5, label=told)
  bright = images.mean((1, 2, 3))
  assert (bright[told == 0] < 0.4).all() and (bright[told == 1] > 0.6).all()
  alone = model.sample(model.keys(key, 5)[1:2], label=1)
  np.testing.assert_array_equal(alone[0], images[1])
  once = model.sample(key, 5, label=told, guidance=1.0)
  np.testing.assert_allclose(once, images, atol=1e-5)
  free = model.sample(key, 5, label=told, guidance=0.0)
  np.testing.assert_allclose(free, model.sample(key, 5), atol=1e-5)
  means = model.chain(key, 5, label=told).means[:, -1]
  np.testing.assert_allclose(means, images, atol=1e-5)


def test_likelihoods_know_the_label(model, key):
  data = dataset()
  images, right = data.test[:6], data.labels["test"][:6]
  found = model.class_likelihoods(key, images, 8)
  assert found.shape == (6, 2)
  np.testing.assert_array_equal(found.argmax(1), right)
  each = model.log_likelihood(key, images, 8, label=right)
  np.testing.assert_allclose(each, found[np.arange(6), right], rtol=1e-5)


def test_the_generative_classifier_is_a_metric(model, tmp_path):
  protocol = Protocol(num_images=10, num_chains=4, score_samples=20)
  session = Session(model, dataset(), protocol, tmp_path, progress=False)
  (row,) = session.measure("classes")
  assert row["value"] == 1.0
  (bound,) = session.measure("bound")
  assert bound["protocol"]["label"] == "each image's own"
  with pytest.raises(UserError, match="agreement.*--classifier=FILE"):
    session.measure("agreement")


def test_annealing_is_given_the_label(model, tmp_path):
  protocol = Protocol(num_images=4, ais_images=4, temperatures=20, ais_chains=2)
  nats = {}
  for label in ("own", "0", "1"):
    asked = dataclasses.replace(protocol, label=label)
    session = Session(model, dataset(), asked, tmp_path, progress=False)
    (row,) = session.measure("ais")
    nats[label] = np.array(row["details"]["per_image"])
    assert row["protocol"]["label"] == ("each image's own" if label == "own" else label)
  right = session.labels(4)
  assert set(right) == {0, 1}
  best = np.maximum(nats["0"], nats["1"])
  np.testing.assert_array_equal(nats["0"] < nats["1"], right)
  np.testing.assert_allclose(nats["own"], best, atol=3.0)
  assert abs(nats["0"] - nats["1"]).min() > 10.0


@pytest.mark.parametrize("label", ["2", "mine", "-1"])
def test_likelihoods_of_wrong_labels_are_refused(model, label):
  with pytest.raises(UserError, match=f"label is .?{label}"):
    evaluation.check_labels(["bound"], model, Protocol(label=label))


def test_restorations_are_of_the_label_asked_for(model, key):
  known = np.zeros((4, 4), bool)
  known[0, 0] = True
  images = np.full((3, 4, 4, 1), 0.5, np.float32)
  found = [
    restoring.restore(
      model, key, images, "inpaint", 2, known=known, label=label
    ).images[:, :, ~known]
    for label in (0, 1)
  ]
  assert found[0].max() < found[1].min()
  with pytest.raises(UserError, match="label is 2"):
    restoring.restore(model, key, images, "inpaint", 2, known=known, label=2)


class BrightIsOne:
  """A classifier in a line."""

  about: ClassVar = {"network": "brightness"}

  def check(self, image_shape):
    assert image_shape == (4, 4, 1)

  def predict(self, images):
    bright = images.mean((1, 2, 3))
    return Predictions(None, np.stack([1 - bright, bright], 1))


def test_agreement_is_the_share_of_samples_as_asked(model, tmp_path, monkeypatch):
  file = tmp_path / "x.npz"
  file.write_bytes(b"x")
  monkeypatch.setattr(classifier, "load", lambda path: BrightIsOne())
  protocol = Protocol(score_samples=20, classifier=str(file))
  session = Session(model, dataset(), protocol, tmp_path, progress=False)
  (row,) = session.measure("agreement")
  assert row["value"] == 1.0
  assert row["protocol"]["num_samples"] == 20
  assert row["details"]["by_label"] == [1.0, 1.0]


@pytest.mark.parametrize("label", [2, -1, 0.5, [0, 1]])
def test_wrong_labels_are_refused(model, key, label):
  with pytest.raises(UserError, match="label"):
    model.sample(key, 3, label=label)


def test_a_run_with_labels_resumes_bit_for_bit(workdir, tmp_path):
  data = dataset()
  loop.fit(config(num_epochs=10, checkpoint_every=10), data, tmp_path, progress=False)
  loop.fit(config(checkpoint_every=10), data, tmp_path, progress=False)
  assert runs.rows(tmp_path) == runs.rows(workdir)


def test_a_run_in_a_group_is_the_run_alone():
  data = dataset()
  made = [config(learning_rate=rate) for rate in (0.01, 0.02)]
  recipe = make_recipe(made[0], data)
  rows = [make_run(row, data) for row in made]
  stack = vmapped.stack(rows)
  group = vmapped.compiled(recipe, stack.axes, None)
  told = jnp.asarray(data.train), jnp.int32(4), jnp.asarray(data.labels["train"])
  state = group.train_steps(group.initial_state(stack.keys), stack.run, *told)
  alone = programs.compiled(recipe).train_steps(
    initial_state(recipe, rows[1].key), rows[1], *told
  )
  for leaf, other in zip(
    jax.tree.leaves(vmapped.row(state.parameters, 1)),
    jax.tree.leaves(alone.parameters),
    strict=True,
  ):
    np.testing.assert_allclose(leaf, other, atol=2e-5)


def test_labels_are_left_out_as_often_as_asked(key):
  recipe = dataclasses.replace(make_recipe(config(), dataset()), label_dropout=0.25)
  found = np.asarray(conditioning.dropped(recipe, key, jnp.zeros(4000, jnp.int32)))
  assert set(found.tolist()) == {0, 2}
  assert abs(np.mean(found == 2) - 0.25) < 0.03
  assert conditioning.dropped(recipe, key, None) is None


def test_labels_and_classes_go_together():
  data = dataset()
  with pytest.raises(UserError, match=r"num_classes is 0.*with labels"):
    labels.check(runs.config(), data)
  with pytest.raises(UserError, match=r"num_classes is 2.*without labels"):
    labels.check(config(), dataclasses.replace(data, labels=None))


def test_the_conductor_loads_labels():
  points = dataclasses.replace(config().data, name="rings", source="points")
  found = conductor.dataset_of(
    dataclasses.replace(config(), data=points, model=ModelConfig(num_classes=3))
  )
  assert set(found.labels["test"].tolist()) == {0, 1, 2}
