"""Metrics of models with labels: what they know of classes, and what they draw."""

from collections.abc import Iterable

import jax
import numpy as np

from infusion_jax import sampling
from infusion_jax.errors import UserError
from infusion_jax.evaluation import likelihoods
from infusion_jax.evaluation.protocol import Measurement, Protocol
from infusion_jax.evaluation.session import Session, metric
from infusion_jax.metrics import classifier
from infusion_jax.metrics.classifier import Classifier
from infusion_jax.model import Model
from infusion_jax.storage import files


@metric("classes")
def classes(session: Session) -> list[Measurement]:
  """How often the label of the largest importance estimate of p(x | y) is the true one.

  A generative classifier with equal shares of the classes. All labels see the same
  chains' noise.
  """
  count = _classes_of(session, "classes")
  found = [
    likelihoods.estimates(session, session.markov, f"label {label}", label)
    for label in range(count)
  ]
  nats = np.stack([estimates["importance"].mean(0) for estimates in found])
  right = nats.argmax(0) == session.labels(len(session.images))
  protocol = likelihoods.chains_protocol(session) | {"label": f"each of {count}"}
  return [_share("classes", right, protocol)]


@metric("agreement")
def agreement(session: Session) -> list[Measurement]:
  """How often a classifier of real images sees the label that was asked for.

  `score_samples` images, as many of each label, of which means or draws are shown to
  the classifier of `--classifier`.
  """
  count, protocol = _classes_of(session, "agreement"), session.protocol
  judge = _judge(session.model, protocol)
  each = max(1, protocol.score_samples // count)
  keys = jax.random.split(session.key("agreement"), each)
  model, draws = session.model, protocol.samples == "draws"
  markov = sampling.markov_chain(model.network, model.weights, session.chain_steps)
  right = []
  with session.bar(count * each, "agreement") as reached:
    for label in range(count):
      parts = sampling.means(sampling.given(markov, label), keys, draws=draws)
      images = np.clip(np.concatenate(list(parts)), 0.0, 1.0)
      right.append(judge.predict(images).probabilities.argmax(1) == label)
      reached((label + 1) * each)
  described = {
    "data": session.dataset.name,
    "num_samples": count * each,
    "samples": f"{protocol.samples} of the last transition",
    "chain_steps": session.chain_steps,
    "seed": protocol.seed,
    "extractor": dict(judge.about),
    "extractor_file": files.digest(protocol.classifier),
  }
  by_label = {"by_label": [round(float(row.mean()), 4) for row in right]}
  return [_share("agreement", np.concatenate(right), described, by_label)]


def check_labels(metrics: Iterable[str], model: Model, protocol: Protocol) -> None:
  """Finds out before any work whether the model and the files suffice.

  Raises:
    UserError: the model has no classes or no such label, or a classifier is missing or
      of other images.
  """
  if protocol.label != "own":
    _check_label(model, protocol.label)
  asked = [name for name in metrics if name in ("classes", "agreement")]
  if asked and not model.num_classes:
    raise UserError(
      f"metric {asked[0]!r} needs a model with classes (model.num_classes)"
    )
  if "agreement" in asked:
    _judge(model, protocol)


def _check_label(model: Model, label: str) -> None:
  if not model.num_classes:
    raise UserError(f"label is {label!r}; the model in {model.path} has no classes")
  if label.isdecimal() and int(label) >= model.num_classes:
    raise UserError(f"label is {label}; this model knows 0 to {model.num_classes - 1}")


def _judge(model: Model, protocol: Protocol) -> Classifier:
  if not protocol.classifier:
    raise UserError(
      "metric 'agreement' needs --classifier=FILE, which python -m"
      " experiments.train_classifier makes"
    )
  judge = classifier.load(protocol.classifier)
  judge.check(model.image_shape)
  return judge


def _classes_of(session: Session, name: str) -> int:
  check_labels([name], session.model, session.protocol)
  return session.model.num_classes


def _share(
  name: str, right: np.ndarray, protocol: dict, details: dict | None = None
) -> Measurement:
  """A share of images with its binomial standard error."""
  share = float(right.mean())
  error = float(np.sqrt(share * (1 - share) / len(right)))
  return Measurement(name, share, error, None, "share", protocol, details or {})
