"""Scores of samples: Parzen windows, Inception-v3, or a classifier of the data.

Networks see the samples as they come, and only what they say of them is kept. Real
images are scored alike: their own score is the one to be reached.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from infusion_jax import pixels, sampling
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.evaluation.protocol import Measurement, Protocol
from infusion_jax.evaluation.session import Session, metric
from infusion_jax.metrics import classifier, extractors, inception, parzen, scores
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


@metric("parzen")
def parzen_window(session: Session) -> list[Measurement]:
  """The Parzen estimate of figure 3.4, by kernels at samples: clean images, all."""
  protocol, levels = session.protocol, session.dataset.levels
  kernels = np.concatenate([*_samples(session, protocol.num_samples)])
  sigma, details = chosen_sigma(session, kernels)
  clean = pixels.scaled(session.dataset.split(protocol.split), levels)
  described = {
    **_described(session, protocol.num_samples),
    "sigma": sigma,
    "chosen_on_validation": not protocol.sigma,
  }
  values = parzen.log_likelihood(clean, kernels, sigma)
  return [Measurement.of("parzen", values, described, details)]


def chosen_sigma(
  session: Session, kernels: np.ndarray
) -> tuple[float, dict[str, list[float]]]:
  """Width of the Parzen kernel: the protocol's, or the best on validation."""
  if session.protocol.sigma:
    return session.protocol.sigma, {}
  validation = pixels.scaled(session.dataset.validation, session.dataset.levels)
  search = parzen.choose_sigma(validation, kernels)
  return search.best, {
    "sigmas": search.sigmas.tolist(),
    "validation": search.log_likelihood.tolist(),
  }


@metric("inception")
def inception_scores(session: Session) -> list[Measurement]:
  """Inception score (table 3.2), FID and KID, through the user's Inception-v3."""
  return _measure(session, "inception")


@metric("classifier")
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
  for name in metrics:
    if name in _LOADERS:
      _extractor(name, protocol).check(dataset.image_shape)


def _extractor(name: str, protocol: Protocol) -> Extractor:
  path = protocol.networks().get(name)
  if not path:
    raise UserError(
      f"metric {name!r} needs --{name}=FILE, which python -m {_MAKERS[name]} makes"
    )
  return _LOADERS[name](path)


def _measure(session: Session, name: str) -> list[Measurement]:
  protocol = session.protocol
  extractor = _extractor(name, protocol)
  extractor.check(session.dataset.image_shape)
  real = extractors.gathered(extractor, _real_images(session))
  # Draws may leave [0, 1]; pictures and the scoring networks may not.
  samples = _samples(session, protocol.score_samples)
  ours = extractors.gathered(extractor, (np.clip(part, 0.0, 1.0) for part in samples))
  found = extractors.compare(ours, real, splits=protocol.splits, seed=protocol.seed)
  names = extractors.NAMES[extractor.name]
  described = {
    **_described(session, protocol.score_samples),
    "extractor": dict(extractor.about),
    "extractor_file": files.digest(protocol.networks()[name]),
  }
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
  # One split has no error, and JSON has no NaN.
  error = None if math.isnan(score.standard_error) else score.standard_error
  return Measurement(name, score.mean, error, score.deviation, unit, protocol, details)


def _score_of_real(real: Predictions, splits: int) -> float:
  """The score of the real images, in as many parts if there are enough of them."""
  parts = min(splits, len(real.probabilities))
  return scores.inception_score(real.probabilities, parts).mean


def _samples(session: Session, count: int) -> Iterator[np.ndarray]:
  """Yields `count` samples of the model as the protocol has them, [b, H, W, C] each."""
  model = session.model
  markov = sampling.markov_chain(model.network, model.weights, session.chain_steps)
  keys = jax.random.split(session.key("samples"), count)
  draws, done = session.protocol.samples == "draws", 0
  with session.bar(count, "samples") as reached:
    for part in sampling.means(markov, keys, draws=draws):
      yield part
      done += len(part)
      reached(done)


def _real_images(session: Session) -> Iterator[np.ndarray]:
  """Yields the whole split, whatever other metrics look at, scaled to [0, 1)."""
  images = session.dataset.split(session.protocol.split)
  with session.bar(len(images), "real images") as reached:
    for first in range(0, len(images), _BATCH):
      part = images[first : first + _BATCH]
      yield pixels.scaled(part, session.dataset.levels)
      reached(first + len(part))


def _described(session: Session, num_samples: int) -> dict:
  """The published protocols use the whole split, whatever the other metrics do."""
  return {
    **session.described(session.dataset.split(session.protocol.split)),
    "num_samples": num_samples,
    "samples": f"{session.protocol.samples} of the last transition",
    "chain_steps": session.chain_steps,
  }
