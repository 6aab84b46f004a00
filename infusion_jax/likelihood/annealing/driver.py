"""Annealed importance sampling of a data set, and the sandwich beside it.

For each batch of images: targets, a pilot that tunes the step sizes to them,
the annealing itself. A run shows where it is after every compiled call, and
goes on from there when it was cut off.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from infusion_jax import random, sampling
from infusion_jax.chain import MarkovChain
from infusion_jax.errors import UserError
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.annealing import estimator, temperatures, tuning
from infusion_jax.likelihood.annealing.decoder import Decoder
from infusion_jax.likelihood.annealing.estimator import MOVES, Moves, Progress, Schedule
from infusion_jax.likelihood.annealing.sandwich import Sandwich, bounds, simulate
from infusion_jax.likelihood.annealing.tuning import Pilot

Array = jax.Array
PyTree = Any

ADAPTIVE = "adaptive"


@dataclasses.dataclass(frozen=True)
class Annealing:
  """How to anneal.

  Attributes:
    num_legs: J, temperatures above 0.
    num_chains: C, annealings per image, whose mean weight is the estimate.
    temperatures: "polynomial", "geometric" or "sigmoid" (see `temperatures`), or
      "adaptive", spaced by a pilot (`tuning.adapted`).
    moves: what happens at one temperature.
    acceptance: mean acceptance probability the pilots tune for.
    pilot_chains: chains per image in the pilots.
    chunk_size: temperatures per compiled call.
  """

  num_legs: int = 1000
  num_chains: int = 4
  temperatures: str = "polynomial"
  moves: Moves = MOVES
  acceptance: float = 0.9
  pilot_chains: int = 2
  chunk_size: int = 50

  def __post_init__(self) -> None:
    """Finds impossible settings before any long work."""
    importance.check_counts(
      num_chains=self.num_chains,
      pilot_chains=self.pilot_chains,
      chunk_size=self.chunk_size,
      num_leapfrog=self.moves.num_leapfrog,
    )
    if not 0 <= self.moves.persistence <= 1:
      raise UserError(
        f"persistence is {self.moves.persistence}; a share in [0, 1] is needed"
      )
    tuning.check_acceptance(self.acceptance)
    if self.temperatures == ADAPTIVE and self.pilot_chains < 2:
      raise UserError(
        "pilot_chains is 1; adaptive temperatures need at least 2, to see how the"
        " likelihood varies"
      )
    self.betas()

  def options(self) -> dict[str, Any]:
    """Those of `annealed.run`."""
    return {
      "num_chains": self.num_chains,
      "moves": self.moves,
      "chunk_size": self.chunk_size,
    }

  def betas(self) -> np.ndarray | Callable[[Pilot], np.ndarray]:
    """[J+1] inverse temperatures, or what makes them of a pilot."""
    if self.temperatures == ADAPTIVE:
      return functools.partial(tuning.adapted, num_legs=self.num_legs)
    return temperatures.named(self.temperatures, self.num_legs)


class Stage(NamedTuple):
  """Where the annealing of a batch stands; arrays only, to be saved.

  Attributes:
    schedule: what the pilots found.
    progress: how far the annealing has come.
  """

  schedule: Schedule
  progress: Progress

  @property
  def finished(self) -> bool:
    """Whether all legs have been followed."""
    return int(self.progress.done) == len(self.schedule.betas) - 1

  @property
  def log_weights(self) -> np.ndarray:
    """[N, C] nats so far; chains that disagree have not mixed."""
    num_images = self.schedule.angles.shape[1]
    return np.asarray(self.progress.state.log_weight).reshape(num_images, -1)

  @property
  def estimate(self) -> np.ndarray:
    """[N] nats, log of the mean weight so far; of log p(x) once finished."""
    num_images = self.schedule.angles.shape[1]
    return np.asarray(estimator.log_mean_weight(self.progress.state, num_images))


def stages(
  keys: Array,
  model: MarkovChain | Decoder,
  x: Array,
  settings: Annealing,
  *,
  resume: Stage | None = None,
) -> Iterator[Stage]:
  """Tunes on a batch of images and anneals it.

  Args:
    keys: [N], one per image.
    model: the chain, or another decoder.
    x: [N, H, W, C].
    settings: how to anneal.
    resume: the last stage of a run that was cut off.

  Yields:
    A stage after every compiled call of the annealing; the last is finished.

  Raises:
    UserError: the stage is not of a run with these images and settings.
  """
  if resume:
    _check_resume(resume, len(x), settings)
  schedule = resume.schedule if resume else _tuned(keys, model, x, settings)
  for progress in estimator.run(
    random.named(keys, "anneal"),
    model,
    x,
    schedule,
    resume=resume.progress if resume else None,
    **settings.options(),
  ):
    yield Stage(schedule, progress)


class Batch(NamedTuple):
  """A batch of images on its way.

  Attributes:
    repetition: number of the repetition.
    first: number of its first image.
    size: images in it.
    stage: where it stands; a finished one holds the estimates.
  """

  repetition: int
  first: int
  size: int
  stage: Stage

  @property
  def estimate(self) -> np.ndarray:
    """[size] nats."""
    return self.stage.estimate[: self.size]


def anneal_batches(
  key: Array,
  model: MarkovChain | Decoder,
  images: np.ndarray,
  settings: Annealing,
  *,
  levels: int | None = None,
  labels: np.ndarray | None = None,
  repetitions: int = 1,
  batch_size: int = 16,
  skip: Callable[[int, int], bool] = lambda repetition, first: False,
  resume: Stage | None = None,
) -> Iterator[Batch]:
  """Anneals a data set batch by batch.

  The step sizes are tuned to each image, their scale to the batch.

  Args:
    key: the estimate's key.
    model: the chain, or another decoder.
    images: [N, H, W, C], integers (dequantized afresh per image and repetition)
      or reals.
    settings: how to anneal.
    levels: grey levels of integer images.
    labels: [N], for estimates of log p(x | label); None: the model as it is.
    repetitions: R, independent in chains and in dequantization.
    batch_size: images annealed together, `settings.num_chains` chains of each.
    skip: tells by repetition and first image what is done already.
    resume: the last stage of the first batch that is not skipped.

  Yields:
    A batch after every compiled call, until it is finished; then the next.
  """
  for repetition, first, size, keys, x in importance.batches(
    key, images, levels, repetitions, batch_size
  ):
    if skip(repetition, first):
      continue
    told = importance.labels_of_batch(labels, first, len(keys))
    given = sampling.given(model, told)
    for stage in stages(keys, given, x(), settings, resume=resume):
      yield Batch(repetition, first, size, stage)
    resume = None


def evaluate_sandwich(
  key: Array,
  model: MarkovChain | Decoder,
  settings: Annealing,
  *,
  num_images: int = 16,
  batch_size: int = 16,
  labels: np.ndarray | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> Sandwich:
  """Both bounds on images simulated from the model, tuned as real ones are.

  Args:
    key: one key; image i depends on it and its own number.
    model: the chain, or another decoder.
    settings: how to anneal, both ways.
    num_images: N.
    batch_size: images annealed together.
    labels: [N], what the images are simulated and annealed given; None: the model as
      it is.
    progress: called with images done and N.

  Returns:
    The bounds, [N].
  """
  parts = []
  for first in range(0, num_images, batch_size):
    numbers = np.arange(first, min(first + batch_size, num_images))
    keys = importance.image_keys(key, numbers)
    given = sampling.given(model, None if labels is None else labels[numbers])
    simulated = simulate(random.named(keys, "simulate"), given)
    schedule = _tuned(keys, given, simulated.x, settings)
    parts.append(bounds(keys, given, simulated, schedule, **settings.options()))
    if progress:
      progress(int(numbers[-1]) + 1, num_images)
  return Sandwich(*(np.concatenate(side) for side in zip(*parts, strict=True)))


class Try(NamedTuple):
  """An annealing of simulated images in search of a gap.

  Attributes:
    num_legs: J, its temperatures.
    lower: mean lower bound of the images, nats.
    upper: mean upper bound, nats.
    error: standard error of their difference.
    seconds: it took.
  """

  num_legs: int
  lower: float
  upper: float
  error: float
  seconds: float

  @property
  def gap(self) -> float:
    """Upper minus lower bound, nats per image."""
    return self.upper - self.lower


def tries(
  key: Array,
  markov: MarkovChain,
  settings: Annealing,
  gap: float,
  *,
  num_images: int = 16,
  most_legs: int = 64_000,
  known: Sequence[Try] = (),
  **options: Any,
) -> Iterator[Try]:
  """Anneals simulated images at more and more temperatures until a gap is reached.

  The gap falls about as 1 / J. The next J is therefore the last one times the factor
  by which the gap is still too wide, and a fifth more.

  Args:
    key: one key; the images are the same in every try.
    markov: the chain.
    settings: how to anneal; `num_legs` is that of the first try.
    gap: wanted, nats per image.
    num_images: simulated.
    most_legs: at which the search ends, whatever the gap.
    known: tries of a search that was cut off.
    **options: of `evaluate_sandwich`.

  Yields:
    A try; the last one's J is the answer.
  """
  legs, done = settings.num_legs, list(known)
  while not done or (done[-1].gap > gap and done[-1].num_legs < most_legs):
    if done:
      wider = min(max(1.2 * done[-1].gap / gap, 1.5), 8.0)
      legs = min(math.ceil(done[-1].num_legs * wider), most_legs)
    began = time.perf_counter()
    found = evaluate_sandwich(
      key,
      markov,
      dataclasses.replace(settings, num_legs=legs),
      num_images=num_images,
      **options,
    )
    seconds = time.perf_counter() - began
    means = float(found.lower.mean()), float(found.upper.mean())
    done.append(Try(legs, *means, found.gap.standard_error or 0.0, seconds))
    yield done[-1]


def _check_resume(stage: Stage, num_images: int, settings: Annealing) -> None:
  """A stage of other settings would go on with a wrong weight."""
  found = len(stage.schedule.betas) - 1, *stage.log_weights.shape
  wanted = settings.num_legs, num_images, settings.num_chains
  if found != wanted:
    raise UserError(
      f"the annealing to resume has {found[0]} temperatures, {found[1]} images and"
      f" {found[2]} chains; this one has {wanted[0]}, {wanted[1]} and {wanted[2]}"
    )


def _tuned(
  keys: Array, model: MarkovChain | Decoder, x: Array, settings: Annealing
) -> Schedule:
  """The schedule for a batch of images."""
  return tuning.tune(
    random.named(keys, "tune"),
    model,
    x,
    settings.betas(),
    num_chains=settings.pilot_chains,
    moves=settings.moves,
    acceptance=settings.acceptance,
  )
