"""A comparison: train every method on one budget, measure all alike, keep what is done.

The budget counts passes forward and backward of a mini-batch through a network of the
configured size: infusion makes T of them a mini-batch, so its rivals see T times as
many mini-batches, divided by the passes of their own.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from infusion_jax import likelihood, peers, pixels, random
from infusion_jax.comparison.contestants import Contestant, contestant
from infusion_jax.comparison.decoders import Annealing
from infusion_jax.config import Config, dotted_keys
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Parts, stop_if
from infusion_jax.metrics import classifier, extractors, neighbors, parzen
from infusion_jax.metrics.classifier import Classifier
from infusion_jax.model import load
from infusion_jax.storage import files
from infusion_jax.training import epochs, loop
from infusion_jax.training.state import steps_per_epoch

ROWS_FILE = "rows.jsonl"
CLASSIFIER_FILE = "classifier.npz"
#: The "method" of pictures that no model has made.
REAL = "training images"

Row = dict[str, Any]

_MOST = 2**32 - 1
_LEAST = {
  "num_samples": 20,
  "curve_samples": 20,
  "sigma": 0,
  "likelihood_images": 0,
  "ais_images": 2,
  "temperatures": 2,
  "classifier_epochs": 1,
  "seed": 0,
}


@dataclasses.dataclass(frozen=True)
class Rules:
  """What is compared, and how it is measured.

  Attributes:
    methods: "infusion" and names of `peers.METHODS`.
    calls: numbers of network calls.
    main_calls: the number that the table is about.
    num_samples: pictures a row of the table.
    curve_samples: pictures a point of the plot.
    sigma: of the Parzen kernel; 0: chosen on validation, row by row.
    likelihood_images: test images that likelihoods are estimated on; 0: all.
    ais_images: of those, how many are annealed where a method decodes noise.
    temperatures: of that annealing.
    classifier_epochs: of the classifier that pictures are scored by.
    seed: of all pictures and estimates.
  """

  methods: tuple[str, ...] = (peers.OURS, *peers.METHODS)
  calls: tuple[int, ...] = (1, 2, 5, 10, 15, 30, 100)
  main_calls: int = 15
  num_samples: int = 10_000
  curve_samples: int = 2000
  sigma: float = parzen.SIGMA
  likelihood_images: int = 1000
  ais_images: int = 50
  temperatures: int = 1000
  classifier_epochs: int = 10
  seed: int = 0

  def __post_init__(self) -> None:
    for name in self.methods:
      if name != peers.OURS and name not in peers.METHODS:
        allowed = ", ".join([peers.OURS, *peers.METHODS])
        raise UserError(f"compare.methods names {name!r}; allowed are {allowed}")
    if not self.calls or min(self.calls) < 1 or self.main_calls not in self.calls:
      raise UserError(
        f"compare.calls is {self.calls}; whole numbers of at least 1 are needed, and"
        f" compare.main_calls = {self.main_calls} among them"
      )
      origin = peers.ORIGINS.get(name)
      if origin and origin not in self.methods[: self.methods.index(name)]:
        raise UserError(
          f"compare.methods names {name!r}, which needs {origin!r} before"
        )
    for name, least in _LEAST.items():
      if not least <= getattr(self, name) <= _MOST:
        raise UserError(
          f"compare.{name} is {getattr(self, name)}; it must lie between {least} and"
          f" {_MOST}"
        )


@dataclasses.dataclass(frozen=True)
class Contest:
  """A comparison in its folder.

  Attributes:
    config: of infusion's run; the others differ from it as `config_of` says.
    rules: what is compared, and how.
    dataset: the images.
    labels: classes of the images by split.
    folder: where runs and rows are kept.
    progress: whether to show progress bars.
    say: is told what begins.
    asked: whether to stop.
  """

  config: Config
  rules: Rules
  dataset: Dataset
  labels: dict[str, np.ndarray]
  folder: pathlib.Path
  progress: bool = True
  say: Callable[[str], None] = print
  asked: Callable[[], bool] = lambda: False

  def run(self) -> list[Row]:
    """Trains and measures what is not there yet; all rows, method by method.

    Raises:
      UserError: a folder holds something else, or a run cannot be trained.
      signals.Stopped: a signal came; what is finished is kept.
    """
    self.check()
    judge = Judge(self._classifier(), self.dataset, self.rules)
    rows = self._measured(REAL, lambda parts: _real_row(judge, parts))
    for method in self.rules.methods:
      rows += self._of_method(method, judge)
    return rows

  def check(self) -> None:
    """Raises UserError where a run cannot be, or the folder holds something else."""
    if self.config.train.method != peers.OURS:
      raise UserError(
        f"base.train.method is {self.config.train.method!r}; the base of a comparison"
        f" is a run of {peers.OURS}, and compare.methods names the others"
      )
    for method in self.rules.methods:
      config = self.config_of(method)
      peers.network_of(config, self.dataset.image_shape)
      loop.check_fits(config, self.dataset)
    if self.folder.exists() and not self.folder.is_dir():
      raise UserError(f"workdir {self.folder} is a file; allowed is a folder")
    there = {path.name for path in self.folder.glob("[!.]*")}
    if there and CLASSIFIER_FILE not in there:
      raise UserError(
        f"workdir {self.folder} is no comparison ({min(there)} is in it); allowed is a"
        " new or empty folder, or that of one"
      )

  def _of_method(self, method: str, judge: "Judge") -> list[Row]:
    self.say(f"{method}: training")
    self.folder.joinpath("runs").mkdir(parents=True, exist_ok=True)
    folder, config = self.folder / "runs" / method, self.config_of(method)
    loop.fit(config, self.dataset, folder, progress=self.progress)
    self.say(f"{method}: measuring")
    cost = self.cost(config, folder)
    found = self.contestant(method)
    rows = self._measured(method, lambda parts: _rows(judge, found, parts, self.asked))
    return [{**row, **cost} for row in rows]

  def contestant(self, method: str) -> Contestant:
    """A trained method, ready to be measured."""
    annealing = Annealing(self.rules.ais_images, self.rules.temperatures)
    return contestant(load(self.folder / "runs" / method), self.dataset, annealing)

  def config_of(self, method: str) -> Config:
    """The configuration that trains a method on the budget."""
    config, train = self.config, self.config.train
    if method == peers.OURS:
      return config
    kind = peers.METHODS[method]
    total = train.num_epochs * config.chain.num_steps
    num_epochs = max(1, round(total / kind.passes))
    origin = peers.ORIGINS.get(method)
    train = dataclasses.replace(
      train,
      method=method,
      init_from=str(self.folder / "runs" / origin) if origin else "",
      num_epochs=num_epochs,
      learning_rate=train.learning_rate * kind.rate,
      checkpoint_every=max(1, num_epochs // 4),
    )
    return dataclasses.replace(config, train=train)

  def cost(self, config: Config, folder: pathlib.Path) -> Row:
    """Gradient evaluations, and seconds of training."""
    method = config.train.method
    ours = method == peers.OURS
    passes = config.chain.num_steps if ours else peers.METHODS[method].passes
    steps = config.train.num_epochs * steps_per_epoch(config.train, self.dataset)
    times = files.read_json_lines(folder / epochs.TIMING_FILE)
    seconds = {row["epoch"]: row["seconds"] for row in times}
    return {
      "passes": steps * passes,
      "epochs": config.train.num_epochs,
      "training_seconds": round(sum(seconds.values()), 1),
    }

  def _measured(
    self, method: str, measure: Callable[["Kept"], Iterator[Row]]
  ) -> list[Row]:
    rules = {**dataclasses.asdict(self.rules), "methods": None, "calls": None}
    config = {} if method == REAL else self.config_of(method).to_dict()
    for key in dotted_keys("place"):
      section, _, name = key.partition(".")
      config.get(section, {}).pop(name, None)
    # A run of this comparison, wherever its folder is.
    config.get("train", {}).pop("init_from", None)
    parts = Parts(self.folder / ROWS_FILE)
    return list(measure(Kept(parts, parts.key(method=method, rules=rules, run=config))))

  def _classifier(self) -> Classifier:
    """The classifier of this data set, trained once."""
    self.folder.mkdir(parents=True, exist_ok=True)
    path = self.folder / CLASSIFIER_FILE
    if not path.exists():
      self.say("classifier: training")
      settings = classifier.Settings(epochs=self.rules.classifier_epochs)
      data, labels = self.dataset, self.labels
      found = classifier.train(
        data.train, labels["train"], data.levels, settings, progress=self.progress
      )
      test = pixels.scaled(data.test, data.levels)
      found.about["test_accuracy"] = found.accuracy(test, labels["test"])
      classifier.save(path, found)
    return classifier.load(path)


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
    near = neighbors.nearest(pictures[:1000], self.dataset.train, self.dataset.levels)
    return {
      "parzen": kernels.mean,
      "parzen_error": kernels.standard_error,
      "sigma": sigma,
      "score": found.inception_score.mean,
      "fid": found.frechet,
      "kid": found.kernel.mean,
      "nearest": float(near.distance.mean()),
    }

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


def _rows(
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


def _real_row(judge: Judge, kept: Kept) -> Iterator[Row]:
  """The scores of training images in place of pictures: what is to be reached."""
  rules, data = judge.rules, judge.dataset
  for count in sorted({rules.curve_samples, rules.num_samples}):
    images = np.asarray(pixels.scaled(data.train[:count], data.levels))
    place = {"method": REAL, "sampler": "", "calls": 0, "samples": count}
    # They are their own neighbours: those of the test images tell more.
    near = neighbors.nearest(judge.test[:1000], data.train, data.levels)
    yield kept.row(
      lambda x=images, near=near: {
        **judge.scores(x),
        "nearest": float(near.distance.mean()),
      },
      **place,
    )
