"""How to measure, and one number that came of it."""

import dataclasses
from typing import Any

import numpy as np

from infusion_jax import likelihood
from infusion_jax.errors import UserError
from infusion_jax.metrics import parzen

#: Where a measurement's details keep one value an image.
PER_IMAGE = "per_image"


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How to measure.

  Attributes:
    split: "train", "validation" or "test".
    num_images: of the split, a random subset that the seed chooses; 0: all.
    num_chains: k, infusion chains an image.
    repetitions: independent repetitions, for the deviation over them.
    seed: decides all noise, and which images are a subset.
    search_images: validation images that choices are made on.
    search_chains: chains an image in searches.
    num_samples: of the model, for the Parzen estimate.
    sigma: of the Parzen kernel; 0: chosen on validation.
    num_steps: length of the chain that samples are drawn with; 0: as trained.
    temperatures: of annealed importance sampling.
    ais_images: images that are annealed, the first of that random order.
    ais_chains: annealed chains an image.
    ais_gap: take temperatures until the annealing error on simulated images is at most
      so many nats, and say how long that took; 0: as many as `temperatures`.
    sandwich: also bound the annealing error on simulated images.
    score_samples: of the model, for the Inception and the classifier score.
    splits: parts that these samples are scored in.
    calibrate: training images that the model's variances are fitted to once more before
      a likelihood is measured (`likelihood.calibration`); 0: they stay as trained.
    output_floor: the smallest variance of the last transition when a likelihood is
      measured, instead of chain.variance_floor; 0: that one.
    outliers: share of an image's pixels that a likelihood takes for uniform noise, so
      that none costs more than -log(outliers) nats; 0: none.
    label: of a model with classes, what its likelihoods are given: each image's "own"
      label, "none", or one label for all, as 3.
    samples: what a sample is to the Parzen, Inception and classifier scores: "means"
      of the last transition, as in the thesis, or "draws" from it.
    precision: of matrix products and convolutions: "highest" is full float32 on every
      device; "high" and "default" are faster and less exact on GPUs and TPUs.
    inception: weights of Inception-v3 (experiments.convert_inception makes them).
    classifier: a classifier (experiments.train_classifier makes it).
  """

  split: str = "test"
  num_images: int = 1000
  num_chains: int = 50
  repetitions: int = 1
  seed: int = 0
  search_images: int = 64
  search_chains: int = 64
  num_samples: int = 10_000
  sigma: float = parzen.SIGMA
  num_steps: int = 0
  temperatures: int = 1000
  ais_images: int = 16
  ais_chains: int = 4
  ais_gap: float = 0.0
  sandwich: bool = False
  score_samples: int = 50_000
  splits: int = 10
  calibrate: int = 0
  output_floor: float = 0.0
  outliers: float = 0.0
  label: str = "own"
  samples: str = "means"
  precision: str = "highest"
  inception: str = ""
  classifier: str = ""

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, str):
        continue
      least = 0 if field.name in _MAY_BE_ZERO else 1
      if not value >= least:
        raise UserError(f"{field.name} is {value}; it must be at least {least}")
      if not value <= _MOST:
        raise UserError(f"{field.name} is {value}; it must be at most {_MOST}")
    if not self.outliers < 1:
      raise UserError(f"outliers is {self.outliers}; it must be less than 1")
    for name, allowed in CHOICES.items():
      if getattr(self, name) not in allowed:
        raise UserError(
          f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}"
        )
    if self.label not in ("own", "none") and not self.label.isdecimal():
      raise UserError(f"label is {self.label!r}; allowed are own, none and a number")
    if self.score_samples < max(2, self.splits):
      raise UserError(
        f"score_samples is {self.score_samples}; it must be at least"
        f" {max(2, self.splits)}, of which splits = {self.splits} can be made"
      )

  def networks(self) -> dict[str, str]:
    """The files of the networks that are given to score with, by metric."""
    named = {"inception": self.inception, "classifier": self.classifier}
    named["agreement"] = self.classifier
    return {name: path for name, path in named.items() if path}


#: What those fields may be that name something.
CHOICES = {
  "samples": ("means", "draws"),
  "precision": ("highest", "high", "default"),
}
# A key's seed has 32 bits; all other numbers are far smaller.
_MOST = 2**32 - 1
_MAY_BE_ZERO = {
  "num_images",
  "seed",
  "sigma",
  "num_steps",
  "sandwich",
  "calibrate",
  "output_floor",
  "outliers",
  "ais_gap",
}


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One number and how it came about.

  Attributes:
    name: of the metric.
    value: mean over the images (and repetitions).
    standard_error: of the mean over images, or None.
    deviation: of the mean over repetitions, or None.
    unit: of the three.
    protocol: what was measured, in words and numbers.
    details: what else was found on the way.
  """

  name: str
  value: float
  standard_error: float | None
  deviation: float | None
  unit: str
  protocol: dict[str, Any]
  details: dict[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(
    cls,
    name: str,
    values: np.ndarray,
    protocol: dict[str, Any],
    details: dict[str, Any] | None = None,
  ) -> "Measurement":
    """The mean of [N] or [R, N] nats, with the N means over repetitions kept.

    Two models that were measured on the same images are compared image by image.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    each = [round(value, 4) for value in values.mean(0).tolist()]
    return cls(
      name,
      *likelihood.summarize(values),
      unit="nats per image",
      protocol=protocol,
      details={**(details or {}), PER_IMAGE: each},
    )
