"""A comparison: train every method on one budget, measure all alike, keep what is done.

The budget counts passes forward and backward of a mini-batch through a network of the
configured size: infusion makes T of them a mini-batch, so its rivals see T times as
many mini-batches, divided by the passes of their own.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from infusion_jax import peers, pixels
from infusion_jax.comparison.contestants import Contestant, contestant
from infusion_jax.comparison.decoders import Annealing
from infusion_jax.comparison.judge import REAL, Judge, Kept, Row, real_rows, rows
from infusion_jax.comparison.rules import Rules
from infusion_jax.config import Config, dotted_keys, later_defaults, value_of
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Parts
from infusion_jax.metrics import classifier
from infusion_jax.metrics.classifier import Classifier
from infusion_jax.model import load
from infusion_jax.training import epochs, loop
from infusion_jax.training.state import steps_per_epoch

ROWS_FILE = "rows.jsonl"
CLASSIFIER_FILE = "classifier.npz"


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
    found = self._measured(REAL, lambda kept: real_rows(judge, kept))
    for method in self.rules.methods:
      found += self._of_method(method, judge)
    return found

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

  def _of_method(self, method: str, judge: Judge) -> list[Row]:
    self.say(f"{method}: training")
    self.folder.joinpath("runs").mkdir(parents=True, exist_ok=True)
    folder, config = self.folder / "runs" / method, self.config_of(method)
    loop.fit(config, self.dataset, folder, progress=self.progress)
    self.say(f"{method}: measuring")
    cost = self.cost(config, folder)
    found = self.contestant(method)
    measured = self._measured(method, lambda kept: rows(judge, found, kept, self.asked))
    return [{**row, **cost} for row in measured]

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
      # Resolved, so that another way to write the folder is no other run.
      init_from=str((self.folder / "runs" / origin).resolve()) if origin else "",
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
    _, seconds = epochs.time_spent(folder)
    return {
      "passes": steps * passes,
      "epochs": config.train.num_epochs,
      "training_seconds": round(seconds, 1),
    }

  def _measured(
    self, method: str, measure: Callable[[Kept], Iterator[Row]]
  ) -> list[Row]:
    parts = Parts(self.folder / ROWS_FILE)
    return list(measure(Kept(parts, self.key(parts, method))))

  def key(self, parts: Parts, method: str) -> str:
    """Names the rows of a method by all that they depend on."""
    rules = {**dataclasses.asdict(self.rules), "methods": None, "calls": None}
    if method == REAL:
      return parts.key(method=method, rules=rules)
    config = self.config_of(method)
    # Leaves out paths, such as that of another run, and keys added later.
    left_out = {*dotted_keys("place"), *later_defaults(config), "train.init_from"}
    names = [key for key in dotted_keys() if key not in left_out]
    run = {name: value_of(config, name) for name in names}
    return parts.key(method=method, rules=rules, run=run)

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
