"""Scores of pictures and likelihoods of test images, row by row, the same for all."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from infusion_jax import likelihood, pixels, random
from infusion_jax.comparison.contestants import Contestant
from infusion_jax.comparison.rules import Rules
from infusion_jax.datasets import Dataset
from infusion_jax.evaluation import Parts, stop_if
from infusion_jax.metrics import extractors, neighbors, parzen
from infusion_jax.metrics.classifier import Classifier

Row = dict[str, Any]

#: The name under which real pictures are judged.
REAL = "training images"


@dataclasses.dataclass(frozen=True)
class Kept:
  """The rows of one method that are there already."""

  parts: Parts
  key: str

  def row(self, measure: Callable[[], Row], **place: Any) -> Row:
    """The row of a place: the one that was kept, or a new one, which is kept."""
    for row in self.parts.get(self.key):
      if all(row.get(name) == value for name, value in place.items()):
        return row
    row = {**place, **measure()}
    self.parts.add(self.key, row)
    return row


class Judge:
  """What scores pictures: kernels, classifier, nearest training images."""

  def __init__(self, network: Classifier, dataset: Dataset, rules: Rules) -> None:
    """Looks at the real images once."""
    self.dataset, self.rules, self.network = dataset, rules, network
    self.test = np.asarray(pixels.scaled(dataset.test, dataset.levels))
    self._validation = np.asarray(pixels.scaled(dataset.validation, dataset.levels))
    self._real = network.predict(self.test)
    self.key = jax.random.key(rules.seed)

  def scores(self, pictures: np.ndarray) -> Row:
    """All scores of pictures [N, H, W, C] in [0, 1]."""
    said = self.network.predict(pictures)
    splits = max(2, min(10, len(pictures) // 200))
    found = extractors.compare(said, self._real, splits=splits)
    sigma = self.rules.sigma or parzen.choose_sigma(self._validation, pictures).best
    kernels = parzen.evaluate(self.test, pictures, sigma)
    return {
      "parzen": kernels.mean,
      "parzen_error": kernels.standard_error,
      "sigma": sigma,
      "score": found.inception_score.mean,
      "fid": found.frechet,
      "kid": found.kernel.mean,
      "nearest": self.distance(pictures),
    }

  def distance(self, pictures: np.ndarray) -> float:
    """Mean distance of the first 1,000 pictures to their nearest training images."""
    near = neighbors.nearest(pictures[:1000], self.dataset.train, self.dataset.levels)
    return float(near.distance.mean())

  def likelihood(self, name: str, found: Contestant) -> Row:
    """An estimate of log p of the first test images."""
    images = self.dataset.test[: self.rules.likelihood_images or None]
    key = random.named(self.key, name)
    values, about = found.likelihoods[name](key, images)
    summary = likelihood.summarize(values)
    shape, levels = self.dataset.image_shape, self.dataset.levels
    return {
      "value": summary.mean,
      "error": summary.standard_error,
      "images": len(values),
      **about,
      "bits": likelihood.bits_per_dimension(summary.mean, shape, levels),
    }


def rows(
  judge: Judge, found: Contestant, kept: Kept, asked: Callable[[], bool]
) -> Iterator[Row]:
  """Rows of pictures, sampler by sampler, then of likelihoods."""
  rules = judge.rules
  for sampler in found.samplers:
    places = dict.fromkeys(found.calls(calls) for calls in rules.calls)
    main = found.calls(rules.main_calls)
    for calls in places:
      for count in {rules.curve_samples, rules.num_samples if calls == main else 0}:
        if count:
          stop_if(asked)
          place = {"method": found.title, "sampler": sampler, "calls": calls}
          yield kept.row(
            lambda s=sampler, c=calls, n=count: _pictured(judge, found, s, c, n),
            **place,
            samples=count,
          )
  for name in found.likelihoods:
    stop_if(asked)
    yield kept.row(
      lambda name=name: judge.likelihood(name, found),
      method=found.title,
      likelihood=name,
    )


def _pictured(
  judge: Judge, found: Contestant, sampler: str, calls: int, count: int
) -> Row:
  key = random.named(judge.key, "pictures")
  pictures = found.pictures(sampler, calls, key, count)
  began = time.perf_counter()
  found.pictures(sampler, calls, key, 1000)
  seconds = time.perf_counter() - began
  return {**judge.scores(pictures), "seconds_per_1000": round(seconds, 4)}


def real_rows(judge: Judge, kept: Kept) -> Iterator[Row]:
  """The scores of training images in place of pictures: what is to be reached."""
  rules, data = judge.rules, judge.dataset
  for count in sorted({rules.curve_samples, rules.num_samples}):
    images = np.asarray(pixels.scaled(data.train[:count], data.levels))
    place = {"method": REAL, "sampler": "", "calls": 0, "samples": count}
    # Training images are their own neighbours, so test images take their place.
    yield kept.row(
      lambda x=images: {**judge.scores(x), "nearest": judge.distance(judge.test)},
      **place,
    )
