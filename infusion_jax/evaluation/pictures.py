"""Scores of samples through a network: Inception-v3, or a classifier of the data.

The samples are scored as they come, and only what the network says of them is
kept. Real images are scored alike: their own score is the one to be reached.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.evaluation.session import (
  Measurement,
  Protocol,
  Session,
)
from infusion_jax.evaluation.windows import sample_means
from infusion_jax.metrics import (
  classifier,
  extractors,
  inception,
  scores,
)
from infusion_jax.metrics.extractors import Extractor, Predictions
from infusion_jax.metrics.scores import SplitScore
from infusion_jax.storage import files

# Real images that are scaled to floats at once.
_BATCH = 500

_LOADERS: dict[str, Callable[[str], Extractor]] = {
  "inception": inception.load,
  "classifier": lambda path: classifier.load(path).extractor,
}
_MAKERS = {
  "inception": "experiments.convert_inception",
  "classifier": "experiments.train_classifier",
}


def inception_scores(session: Session) -> list[Measurement]:
  """Inception score (table 3.2), FID and KID, through the user's Inception-v3."""
  return _measure(session, "inception")


def classifier_scores(session: Session) -> list[Measurement]:
  """The same formulas through a classifier of the data set at hand."""
  return _measure(session, "classifier")


def check_extractors(
  metrics: Iterable[str], protocol: Protocol, dataset: Dataset
) -> None:
  """Finds out before any work whether the metrics have the networks they need.

  Raises:
    UserError: no file was given for one of them, or it is missing, damaged, or of a
      network for other images.
  """
  for metric in metrics:
    if metric in _LOADERS:
      _extractor(metric, protocol).check(dataset.image_shape)


def _extractor(metric: str, protocol: Protocol) -> Extractor:
  path = protocol.networks().get(metric)
  if not path:
    raise UserError(
      f"metric {metric!r} needs --{metric}=FILE, which python -m {_MAKERS[metric]}"
      " makes"
    )
  return _LOADERS[metric](path)


def _measure(session: Session, metric: str) -> list[Measurement]:
  protocol = session.protocol
  extractor = _extractor(metric, protocol)
  extractor.check(session.dataset.image_shape)
  real = extractors.gathered(extractor, _real_images(session))
  samples = sample_means(session, protocol.score_samples)
  ours = extractors.gathered(extractor, samples)
  found = extractors.compare(ours, real, splits=protocol.splits, seed=protocol.seed)
  names = extractors.NAMES[extractor.name]
  described = _described(session, metric, extractor)
  return [
    _of_splits(
      names.inception_score,
      found.inception_score,
      {**described, "splits": protocol.splits},
      unit="exp of nats",
      real_images=_score_of_real(real, protocol.splits),
    ),
    Measurement(names.frechet, found.frechet, None, None, "distance", described),
    _of_splits(
      names.kernel,
      found.kernel,
      {**described, "subsets": found.kernel.splits},
      unit="distance",
    ),
  ]


def _of_splits(
  name: str, score: SplitScore, protocol: dict, unit: str, **details: object
) -> Measurement:
  # JSON has no NaN: one split has no error.
  error = None if math.isnan(score.standard_error) else score.standard_error
  return Measurement(name, score.mean, error, score.deviation, unit, protocol, details)


def _score_of_real(real: Predictions, splits: int) -> float:
  """The score of the real images, in as many parts if there are enough of them."""
  parts = min(splits, len(real.probabilities))
  return scores.inception_score(real.probabilities, parts).mean


def _real_images(session: Session) -> Iterator[np.ndarray]:
  """Yields the whole split, whatever other metrics look at, scaled to [0, 1)."""
  images = session.dataset.split(session.protocol.split)
  with session.bar(len(images), "real images") as bar:
    for first in range(0, len(images), _BATCH):
      part = images[first : first + _BATCH]
      yield np.float32(part) / session.dataset.levels
      bar.update(len(part))


def _described(session: Session, metric: str, extractor: Extractor) -> dict:
  protocol = session.protocol
  return {
    **session.described(num_samples=protocol.score_samples),
    "num_images": len(session.dataset.split(protocol.split)),
    "pictures": "means of the last transition",
    "chain_steps": session.chain_steps,
    "extractor": dict(extractor.about),
    "extractor_file": files.digest(protocol.networks()[metric]),
  }
