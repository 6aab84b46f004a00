"""The host's loop, written once: epochs, chunks of steps, signals, saving, time.

What is trained is a `Training`: one run (`loop`), or a group of runs as one program
(`sweep.group_training`). Order of an epoch: steps, measure, write metrics, draw
pictures, save. Step counter, state and data cursor therefore always agree, and a
run resumed from any checkpoint ends with the very bits of an undisturbed one.
"""

import abc
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import jax

from infusion_jax.storage import files, provenance
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.terminal import training_log
from infusion_jax.terminal.training_log import TrainingLog
from infusion_jax.training import hosts, signals
from infusion_jax.training.metrics_log import MetricsWriter, Silent
from infusion_jax.training.nonfinite import NonFiniteError
from infusion_jax.training.state import Best, TrainState

TIMING_FILE = "timing.jsonl"
#: A run of fewer steps gets a warning: it learns little.
_FEW_STEPS = 100


class Training(abc.ABC):
  """What is trained in one launch; a subclass says what a step and an epoch's end are.

  Attributes:
    folder: of metrics, times and checkpoints.
    checkpoints: open for writing.
    asked: whether a signal came.
    per_epoch: steps of an epoch.
    num_epochs: to be trained.
    writer: of metrics.
    log: how it goes, for people; None before `begin`.
    measured: what the log tells of the last epoch, by name.
    chunk: steps until the next look at signals and progress.
  """

  #: Seconds that a chunk of steps should take.
  chunk_seconds = 1.0
  #: What is stopped, in the sentence that says so.
  name = ""
  #: Runs that the state holds.
  num_runs = 1

  def __init__(
    self,
    folder: pathlib.Path,
    checkpoints: Checkpoints,
    asked: Callable[[], bool],
    *,
    per_epoch: int,
    num_epochs: int,
    progress: bool = True,
    title: str = "",
    watched_by: Sequence[str] = (),
    fact: str = "",
  ) -> None:
    """Opens nothing yet; see `begin`. The opening line of the log ends with `fact`."""
    self.folder = folder
    self.checkpoints = checkpoints
    # A signal to one process stops all processes.
    self.asked = lambda: hosts.any_of(asked())
    self.per_epoch = per_epoch
    self.num_epochs = num_epochs
    self.writer: MetricsWriter | Silent = Silent()
    self.log: TrainingLog | None = None
    self.measured: dict[str, str] = {}
    self.chunk = 1
    self._progress = progress
    self._title = title
    self._watched_by = watched_by
    self._fact = fact

  @abc.abstractmethod
  def latest(self) -> tuple[int, TrainState]:
    """Step and state of the last checkpoint, or of the beginning."""

  @abc.abstractmethod
  def advance(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    """Takes at most so many steps of one epoch, and says how many.

    Raises:
      NonFiniteError: a number was not finite, which `recover` deals with.
    """

  @abc.abstractmethod
  def end_epoch(self, state: TrainState, epoch: int) -> TrainState:
    """Measures, writes metrics, draws, and saves where that is due."""

  @abc.abstractmethod
  def over(self, state: TrainState, epoch: int) -> bool:
    """Whether nothing is left to train after so many epochs."""

  @abc.abstractmethod
  def save(self, state: TrainState, epoch: int) -> None:
    """Saves in the middle of an epoch."""

  def recover(self, error: NonFiniteError) -> None:
    """Makes another attempt possible, or raises what ends training."""
    raise error

  def begin(self) -> TrainState:
    """The last state, with metrics and log set to its step."""
    step, state = self.latest()
    self.writer.close()
    self.writer = (
      hosts.on_first(
        lambda: MetricsWriter(self.folder, step, watched_by=self._watched_by)
      )
      or Silent()
    )
    if self.log is None:
      self.log = self._opened_log()
    self.log.say(self._about(step, state))
    self.log.restart(step)
    return state

  def _opened_log(self) -> TrainingLog:
    length = self.num_epochs, self.per_epoch
    if not hosts.is_first():
      return TrainingLog()
    return training_log.opened(*length, self._title, bar=self._progress)

  def _about(self, step: int, state: TrainState) -> str:
    """Device, size and length of the training, in a line."""
    leaves = jax.tree.leaves(state.current)
    count = len(leaves[0].sharding.device_set)
    steps = self.num_epochs * self.per_epoch
    parts = [
      provenance.device() + (f", {count} devices" if count > 1 else ""),
      f"{sum(leaf.size for leaf in leaves) // self.num_runs:,} parameters",
      f"{steps:,} steps, {self.per_epoch:,} an epoch",
    ]
    if steps < _FEW_STEPS:
      parts.append("so few show that all works, but train next to nothing")
    if step:
      parts.append(f"goes on after step {step:,}")
    if self._fact:
      parts.append(self._fact)
    return "; ".join(parts)

  def note(self, validation: Mapping[str, float], best: Best) -> None:
    """Keeps what the log shall tell of an epoch."""
    bound, epoch = float(best.bound), int(best.epoch)
    self.measured = training_log.measured(validation, bound, epoch)

  def close(self) -> None:
    """Closes files and log."""
    if self.log is not None:
      self.log.close()
    self.writer.close()
    self.checkpoints.close()


def train(training: Training) -> TrainState:
  """Trains epoch by epoch to the end, from the last checkpoint if there is one.

  Raises:
    signals.Stopped: a signal came; the state is saved.
    UserError: training met a number that is not finite.
  """
  while True:
    state = training.begin()
    try:
      return _epochs(training, state)
    except NonFiniteError as error:
      training.recover(error)


def _epochs(training: Training, state: TrainState) -> TrainState:
  epoch = int(state.step) // training.per_epoch
  while not training.over(state, epoch):
    began = time.perf_counter()
    state = _steps_of_epoch(training, state)
    epoch += 1
    state = training.end_epoch(state, epoch)
    seconds = time.perf_counter() - began
    training.log.epoch(epoch, seconds, training.measured)
    if hosts.is_first():
      _note_time(training.folder, epoch, seconds)
  return state


def _steps_of_epoch(training: Training, state: TrainState) -> TrainState:
  """The steps left in the current epoch, in chunks of about equal time."""
  left = training.per_epoch - int(state.step) % training.per_epoch
  while left:
    if training.asked():
      _stop(training, state)
    began = time.perf_counter()
    state, size = training.advance(state, min(training.chunk, left))
    state.failed.block_until_ready()
    # All processes take equally many steps.
    seconds = hosts.of_first(time.perf_counter() - began)
    fitting = int(training.chunk_seconds * size / seconds)
    training.chunk = max(1, min(2 * training.chunk, fitting))
    training.log.steps(size, seconds)
    left -= size
  return state


def _stop(training: Training, state: TrainState) -> None:
  """Saves, perhaps in the middle of an epoch, and gives up to be resumed."""
  step = int(state.step)
  if hosts.of_first(step not in training.checkpoints.steps()):
    training.save(state, step // training.per_epoch)
  raise signals.Stopped(f"stopped at step {step}{training.name}, which is saved")


def _note_time(folder: pathlib.Path, epoch: int, seconds: float) -> None:
  """Wall times have a file of their own: metrics are the same at every repeat."""
  row = {"epoch": epoch, "seconds": round(seconds, 3)}
  files.append_json(folder / TIMING_FILE, row)


def time_spent(folder: pathlib.Path) -> tuple[int, float]:
  """Epochs trained in a folder and the seconds they took; repeated ones count once."""
  path = folder / TIMING_FILE
  rows = files.read_json_lines(path) if path.exists() else ()
  seconds = {row["epoch"]: row["seconds"] for row in rows}
  return len(seconds), math.fsum(seconds.values())
