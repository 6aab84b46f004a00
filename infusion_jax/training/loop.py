"""Training of one run: measurements, pictures, checkpoints, trouble."""

import contextlib
import dataclasses
import logging
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from infusion_jax import random
from infusion_jax.chain import Parameters
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.networks import user_code
from infusion_jax.peers import PeerNetwork
from infusion_jax.sampling import Weights
from infusion_jax.storage import files
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.training import (
  devices,
  epochs,
  feeds,
  hosts,
  labels,
  precision,
  previews,
  signals,
  snapshot,
  workdir,
)
from infusion_jax.training.labels import check_fits
from infusion_jax.training.nonfinite import NonFiniteError, explain
from infusion_jax.training.programs import compiled
from infusion_jax.training.state import (
  Recipe,
  Run,
  TrainState,
  initial_state,
  make_recipe,
  make_run,
  steps_per_epoch,
)

PyTree = Any

#: Mini-batches of an epoch that may be left out, as a share of all.
_MOST_LEFT_OUT = 0.1

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a run ended.

  Attributes:
    epochs: finished.
    best_bound: best validation bound, nats per image.
    best_epoch: the epoch it was reached after.
    stopped_early: whether patience ran out before the epochs did.
  """

  epochs: int
  best_bound: float
  best_epoch: int
  stopped_early: bool


def fit(
  config: Config,
  dataset: Dataset,
  folder: pathlib.Path,
  *,
  tensorboard: bool = False,
  wandb: bool = False,
  progress: bool = True,
  mesh: Mesh | None = None,
) -> Outcome:
  """Trains a run in its folder, from its last checkpoint if there is one.

  Args:
    config: the run.
    dataset: its images.
    folder: the workdir; see `workdir.claim`.
    tensorboard: also write TensorBoard event files.
    wandb: also log to Weights & Biases.
    progress: show a bar where stderr is a terminal, not a line an epoch.
    mesh: devices that share every batch, see `devices.make_mesh`; no part of the
      run: it may go on on others. With several processes, each calls this alike.

  Returns:
    How it ended.

  Raises:
    UserError: the configuration does not fit the data or the folder, another
      process trains there, it cannot be written, or training met a number that is
      not finite.
    signals.Stopped: SIGTERM or SIGINT came; the state is saved.
  """
  check_fits(config, dataset)
  with contextlib.ExitStack() as stack:
    # Before anything is on disk or calls back from C++ or an event loop: those may
    # swallow an interrupt that nobody else handles.
    asked = stack.enter_context(signals.asking())
    config, fact = precision.decided(config, dataset, folder, mesh)
    recipe, run = make_recipe(config, dataset, mesh), make_run(config, dataset)
    start = _initial_parameters(config, recipe)
    claimed = workdir.claimed(folder, config)
    hosts.on_first(lambda: stack.enter_context(claimed))
    watching = {"tensorboard": tensorboard, "wandb": wandb}
    watched_by = [name for name, asked_for in watching.items() if asked_for]
    options = {"watched_by": watched_by, "progress": progress, "fact": fact}
    facts = config, dataset, folder, recipe, run, start, asked
    try:
      training = _SingleRun(*facts, **options)
      with contextlib.closing(training):
        state = epochs.train(training)
    except OSError as error:
      raise workdir.unwritable(folder, error) from error
  done = int(state.step) // training.per_epoch
  best = state.best
  return Outcome(
    done, float(best.bound), int(best.epoch), done < config.train.num_epochs
  )


def _initial_parameters(config: Config, recipe: Recipe) -> Any:
  peer, network = recipe.peer, recipe.network
  origin = peer.origin if peer else None
  if not config.train.init_from:
    if origin:
      raise UserError(
        f"train.init_from is empty; train.method = {config.train.method!r} starts from"
        f" a run of {origin.title}"
      )
    return None
  network = PeerNetwork(origin, network.num_steps) if origin else network
  found = stored.of_run(config.train.init_from, network).parameters
  return found._replace(shared=peer.start(found.shared)) if peer else found


def _open_checkpoints(folder: pathlib.Path, keep: int) -> Checkpoints:
  """For writing on the first process; the others then find what it has cleared."""
  opened = hosts.on_first(
    lambda: Checkpoints(folder, keep_period=keep or None, write=True)
  )
  return opened or Checkpoints(folder)


class _SingleRun(epochs.Training):
  """One run; its batches may be shared by the devices of a mesh."""

  def __init__(
    self,
    config: Config,
    dataset: Dataset,
    folder: pathlib.Path,
    recipe: Recipe,
    run: Run,
    start: Parameters | None,
    asked: Callable[[], bool],
    **options: Any,
  ) -> None:
    """Puts images and numbers on the devices.

    Args:
      config: the run.
      dataset: its images.
      folder: its workdir, which is claimed.
      recipe: its program.
      run: its numbers.
      start: parameters to start from, instead of fresh ones.
      asked: whether a signal came.
      **options: of `epochs.Training`.
    """
    per_epoch = steps_per_epoch(config.train, dataset)
    pictures = folder / previews.FOLDER / "epoch_*"
    hosts.on_first(lambda: files.clear_temporary(pictures))
    checkpoints = _open_checkpoints(folder, config.train.keep_every * per_epoch)
    num_epochs = config.train.num_epochs
    super().__init__(
      folder, checkpoints, asked, per_epoch=per_epoch, num_epochs=num_epochs, **options
    )
    mesh = recipe.mesh
    self.config, self.dataset, self.recipe, self.start = config, dataset, recipe, start
    self.program = compiled(recipe)
    self.run = devices.copied(run, mesh)
    train = dataset.train, dataset.labels_of("train")
    self.feed = feeds.make(config.data.stream, recipe, self.run, *train)
    self.validation = devices.shared(dataset.validation, mesh)
    self.monitor = devices.shared(dataset.train[: config.train.monitor_images], mesh)
    self.labels = labels.placed(config, dataset, mesh)
    self.left_out: set[int] = set()

  def latest(self) -> tuple[int, TrainState]:
    """Step and state of the last checkpoint, or of the beginning."""
    run = self._local(self.run)

    def read(step: int) -> TrainState:
      return snapshot.restore(self.checkpoints, step, self.recipe, run)

    # Other processes may see the folder as it was a moment ago.
    found = hosts.on_first(lambda: self.checkpoints.newest(read))
    step = hosts.of_first(found[0] if found else -1)
    if step < 0:
      state = initial_state(self.recipe, run.key, self.start)
    else:
      state = found[1] if found else read(step)
    return max(step, 0), devices.copied(state, self.recipe.mesh)

  def advance(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    """At most so many steps of one epoch, and how many; one left out is a step, too."""
    state, size = self._advanced(state, most)
    failed = int(state.failed)
    if failed >= 0:
      raise NonFiniteError(failed)
    return state, size

  def _advanced(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    step = int(state.step)
    if step in self.left_out:
      return state._replace(step=state.step + 1), 1
    size = min([most, *(other - step for other in self.left_out if other > step)])
    return self.feed.advance(state, size)

  def over(self, state: TrainState, epoch: int) -> bool:
    """Whether all epochs are done, or patience has run out."""
    return epoch >= self.num_epochs or self._stalled(state, epoch)

  def _stalled(self, state: TrainState, epoch: int) -> bool:
    patience = self.config.train.patience
    return bool(patience) and epoch - int(state.best.epoch) >= patience

  def end_epoch(self, state: TrainState, epoch: int) -> TrainState:
    """Measures, draws and saves, each as often as the configuration says."""
    train = self.config.train
    state = self._measure(state, epoch)
    if train.parzen_every and epoch % train.parzen_every == 0:
      self._measure_parzen(state, epoch)
    last = self.over(state, epoch)
    weights = self._best_weights(state, population=last)
    if last or (train.preview_every and epoch % train.preview_every == 0):
      network, key = self.recipe.network, self._local(self.run).key
      own = self._local(weights)
      hosts.on_first(lambda: previews.draw(self.folder, network, own, key, epoch))
    if last or epoch % train.checkpoint_every == 0:
      self._save(state, weights, epoch, finished=last)
    return state

  def _measure(self, state: TrainState, epoch: int) -> TrainState:
    """Bounds on validation and training images; keeps the best parameters."""
    program, run, step = self.program, self.run, int(state.step)
    key = random.named(run.key, "validation")
    rows = {"validation": self.validation, "train": self.monitor}
    told = self.labels
    measured = {
      split: jax.device_get(
        program.mean_terms(state.current, key, run.infusion, images, told[split])
      )
      for split, images in rows.items()
      if len(images)
    }
    totals = jax.device_get(state.totals)
    measured.setdefault("train", {}).update(
      loss=totals.loss / totals.count,
      gradient_norm=totals.gradient_norm / totals.count,
    )
    if totals.count < self.per_epoch:
      measured["train"]["left_out"] = self.per_epoch - totals.count
    for split, values in measured.items():
      values = {name: float(value) for name, value in values.items()}
      self._check_measured(split, values, epoch)
      self.writer.write(step, epoch, split, values)
    bound = self._score(measured["validation"], epoch)
    state = program.end_epoch(state, bound, np.int32(epoch))
    self.note(measured["validation"], state.best)
    return state

  def _score(self, validation: dict[str, float], epoch: int) -> float:
    """What the best epoch has most of: its bound; of a peer, minus its loss."""
    peer = self.recipe.peer
    if peer is None:
      return validation["bound"]
    return -float(validation["loss"]) if peer.selects else float(epoch)

  def _check_measured(self, split: str, values: dict[str, float], epoch: int) -> None:
    for name, value in values.items():
      if not math.isfinite(value):
        raise UserError(
          f"{name} on {split} is {value} after epoch {epoch}; {self._last_good()}"
        )

  def _measure_parzen(self, state: TrainState, epoch: int) -> None:
    """The Parzen estimate of the validation images under the current parameters."""
    statistics = state.statistics
    if state.average is not None:
      # The running statistics are those of the weights that are trained.
      statistics = self._population_statistics(state.average)
    self.log.doing("Parzen")
    infusion = self.run.infusion.learned(state.current.per_step)
    current = Weights(state.current, statistics, infusion)
    weights, key = self._local((current, self.run.key))
    network, count = self.recipe.network, self.config.train.parzen_samples

    def measure() -> None:
      values = previews.parzen_estimate(network, weights, key, self.dataset, count)
      self.writer.write(int(state.step), epoch, "validation", values)

    hosts.on_first(measure)
    self.log.doing("")

  def _best_weights(self, state: TrainState, population: bool) -> Weights:
    """The best parameters with running statistics, or with the training set's."""
    parameters, statistics = state.best.parameters, state.best.statistics
    if population:
      statistics = self._population_statistics(parameters)
    infusion = self.run.infusion.learned(parameters.per_step)
    return Weights(parameters, statistics, infusion)

  def _population_statistics(self, parameters: Parameters) -> PyTree:
    self.log.doing("batch statistics")
    return self.feed.population_statistics(parameters)

  def close(self) -> None:
    """Closes files, and what reads ahead."""
    self.feed.close()
    super().close()

  def save(self, state: TrainState, epoch: int) -> None:
    """Saves in the middle of an epoch."""
    weights = self._best_weights(state, population=False)
    self._save(state, weights, epoch, finished=False)

  def _save(
    self, state: TrainState, weights: Weights, epoch: int, *, finished: bool
  ) -> None:
    best = float(state.best.bound)
    about = {
      "config": self.config.to_dict(),
      "dataset": self.dataset.name,
      "image_shape": list(self.dataset.image_shape),
      "levels": self.dataset.levels,
      "epoch": epoch,
      "best_bound": best if math.isfinite(best) and not self.recipe.peer else None,
      "best_epoch": int(state.best.epoch),
      "statistics": "population" if finished else "running",
      **user_code.described(self.config.model.name),
    }
    trees = self._local((stored.tree_of(weights), snapshot.training_tree(state)))
    hosts.on_first(lambda: workdir.check_there(self.folder))
    hosts.on_first(lambda: self.checkpoints.save(int(state.step), *trees, about))

  def recover(self, error: NonFiniteError) -> None:
    """Leaves a mini-batch out, or ends training, and says what was wrong with it.

    Raises:
      UserError: training ends, as `train.on_nonfinite` says.
    """
    epoch = error.step // self.per_epoch
    told = f"{self._explained(error.step)} at step {error.step} (epoch {epoch + 1})"
    if self.config.train.on_nonfinite == "stop":
      raise UserError(
        f"{told}; {self._last_good()}; a smaller train.learning_rate, train.clip = 1 or"
        " train.on_nonfinite = rollback usually helps"
      )
    self.left_out.add(error.step)
    count = sum(other // self.per_epoch == epoch for other in self.left_out)
    if count > max(1, _MOST_LEFT_OUT * self.per_epoch):
      raise UserError(
        f"{told}, as in {count - 1} other steps of this epoch, and train.on_nonfinite ="
        f" rollback leaves out a tenth of an epoch at most; {self._last_good()}"
      )
    _LOGGER.warning("%s; back to the last checkpoint, and on without this step", told)

  def _explained(self, step: int) -> str:
    """What is not finite in a step, found by training up to it once more."""
    _, state = self.latest()
    while int(state.step) < step:
      left = self.per_epoch - int(state.step) % self.per_epoch
      state, _ = self._advanced(state, min(left, step - int(state.step)))
    run, state = self._local((self.run, state))
    told = self.dataset.labels_of("train")
    return explain(self.recipe, run, self.dataset.train, state, told)

  def _last_good(self) -> str:
    steps = self.checkpoints.steps()
    if not steps:
      return "no checkpoint had been saved before"
    return f"the last good checkpoint is that of step {steps[-1]}"

  def _local(self, tree: PyTree) -> PyTree:
    """A tree on one device of this process."""
    return devices.local(tree, self.recipe.mesh)
