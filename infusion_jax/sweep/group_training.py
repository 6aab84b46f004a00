"""Training of a group of runs as one program.

All runs take the same steps; one that has diverged or run out of patience is frozen:
its best parameters, its bound and its curve no longer change. Its row of the program
goes on computing, as rows of one program must, and nobody looks at it.
"""

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import random
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.networks import user_code
from infusion_jax.sampling import Weights
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.sweep import overrides, vmapped
from infusion_jax.sweep.ledger import Folder, Job, Result
from infusion_jax.training import epochs, snapshot
from infusion_jax.training.state import (
  TrainState,
  make_infusion,
  make_recipe,
  make_run,
  steps_per_epoch,
)

Array = jax.Array
PyTree = Any


def train(
  folder: Folder, job: Job, dataset: Dataset, asked: Callable[[], bool]
) -> None:
  """Trains a group, from its last checkpoint if there is one, to its end.

  Raises:
    signals.Stopped: a signal came; the state is saved.
  """
  training = _Group(folder, job, dataset, asked)
  with contextlib.closing(training):
    state = epochs.train(training)
    results = training.export(state)
  folder.write_results(job.group, results)


class _Group(epochs.Training):
  """R runs; with several devices the stack has more, to give them equal shares."""

  # Runs computed in turn are copied out of the group and back once a chunk, so it
  # should not be short.
  chunk_seconds = 5.0

  def __init__(
    self, folder: Folder, job: Job, dataset: Dataset, asked: Callable[[], bool]
  ) -> None:
    """Puts images and the runs' numbers on the devices."""
    group = job.group
    config = group.configs[0]
    super().__init__(
      folder.group(group),
      Checkpoints(folder.group(group), write=True),
      asked,
      per_epoch=steps_per_epoch(config.train, dataset),
      num_epochs=config.train.num_epochs,
      progress=job.progress,
      title=job.title or group.title,
    )
    self.name = f" of group {group.name}"
    self.group, self.dataset, self.sweep = group, dataset, folder
    self.recipe = make_recipe(config, dataset)
    self.rows = vmapped.filled_up(group.configs)
    self.num_runs = len(self.rows)
    stack = vmapped.stack([make_run(row, dataset) for row in self.rows])
    mesh = vmapped.make_mesh(len(group.configs))
    together = vmapped.chosen_together(job.together)
    self.program = vmapped.compiled(self.recipe, stack.axes, mesh, together)
    self.stack = stack._replace(run=self.program.place_run(stack.run))
    self.images = self.program.place_images(dataset.train)
    self.validation = self.program.place_images(dataset.validation)
    self.labels = {
      split: self.program.place_labels(dataset.labels_of(split))
      for split in ("train", "validation")
    }
    #: A `Result` for every run that no longer trains, else None.
    self.ended: list[Result | None] = [None] * len(group.configs)

  @property
  def active(self) -> list[int]:
    """The runs that train."""
    return [i for i, result in enumerate(self.ended) if result is None]

  def latest(self) -> tuple[int, TrainState]:
    """Step and state of the last checkpoint, or of the beginning."""
    found = self.checkpoints.newest(self._read)
    if found is None:
      return 0, self.program.place_state(self._first())
    step, (state, self.ended) = found
    return step, self.program.place_state(vmapped.padded(state, len(self.rows)))

  def _first(self) -> TrainState:
    """The state before the first step; runs may start from the weights of others."""
    state = self.program.initial_state(self.program.place_keys(self.stack.keys))
    for index, config in enumerate(self.rows):
      if config.train.init_from:
        weights = stored.of_run(config.train.init_from, self.recipe.network)
        state = vmapped.starting_from(state, index, weights.parameters)
    return state

  def _read(self, step: int) -> tuple[TrainState, list[Result | None]]:
    # Stores the group's own runs and not the copies that fill up the devices.
    shapes = jax.eval_shape(self.program.initial_state, self.stack.keys)
    like = vmapped.shapes_of_first(shapes, len(self.ended))
    ended = [row and Result(**row) for row in self.checkpoints.about(step)["ended"]]
    training = self.checkpoints.training(step, snapshot.training_tree(like))
    model = self.checkpoints.model(step, like.best.parameters._asdict())
    state = TrainState(**training)
    best = state.best._replace(parameters=type(like.best.parameters)(**model))
    return state._replace(best=best), ended

  def advance(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    """Takes so many steps."""
    size, labels = jnp.asarray(most), self.labels["train"]
    run, images = self.stack.run, self.images
    return self.program.train_steps(state, run, images, size, labels), most

  def over(self, state: TrainState, epoch: int) -> bool:
    """Whether no run trains any more."""
    return not self.active

  def end_epoch(self, state: TrainState, epoch: int) -> TrainState:
    """Measures all runs, freezes those that end, saves where that is due."""
    state = self._measure(state, epoch)
    if epoch == self.num_epochs:
      for index in self.active:
        self._end(state, index, "finished", epoch)
    every = min(config.train.checkpoint_every for config in self.group.configs)
    if not self.active or epoch % every == 0:
      self.save(state, epoch)
    return state

  def _measure(self, state: TrainState, epoch: int) -> TrainState:
    """Validates all runs, freezes those that end, keeps the others' best."""
    run = self.stack.run
    key = random.named(run.key, "validation")
    rows = self.validation, self.labels["validation"]
    terms = self.program.mean_terms(state.current, key, run.infusion, *rows)
    bounds, totals, failed = jax.device_get(
      (terms["bound"], state.totals, state.failed)
    )
    bounds = np.array(bounds)
    self._end_diverged(state, bounds, failed, epoch)
    frozen = sorted(set(range(len(bounds))) - set(self.active))
    # NaN never counts as better, so a frozen run keeps its best.
    bounds[frozen] = np.nan
    rows = {
      "validation": bounds,
      "loss": totals.loss / totals.count,
      "gradient_norm": totals.gradient_norm / totals.count,
    }
    for split, values in rows.items():
      named = {self.group.runs[i]: float(values[i]) for i in self.active}
      self.writer.write(int(state.step), epoch, split, named)
    state = self.program.end_epoch(state, jnp.asarray(bounds), np.int32(epoch))
    self._end_stalled(state, epoch)
    best = float(np.max(jax.device_get(state.best.bound)))
    self.measured = {"training": f"{len(self.active)} runs", "best": f"{best:.2f}"}
    return state

  def _end_diverged(
    self, state: TrainState, bounds: np.ndarray, failed: np.ndarray, epoch: int
  ) -> None:
    """Freezes runs whose loss, gradient or validation bound is not finite."""
    for i in self.active:
      if failed[i] < 0 and math.isfinite(bounds[i]):
        continue
      step = int(failed[i]) if failed[i] >= 0 else int(state.step)
      self._end(state, i, "diverged", epoch, step)

  def _end_stalled(self, state: TrainState, epoch: int) -> None:
    """Freezes runs that have run out of patience."""
    best = jax.device_get(state.best.epoch)
    for i in self.active:
      patience = self.group.configs[i].train.patience
      if patience and epoch - best[i] >= patience and epoch < self.num_epochs:
        self._end(state, i, "stopped early", epoch)

  def _end(
    self,
    state: TrainState,
    index: int,
    status: str,
    epoch: int,
    failed_step: int | None = None,
  ) -> None:
    """Writes down how a run ended, and says so where it is not as planned."""
    bound = float(state.best.bound[index])
    run = self.group.runs[index]
    self.ended[index] = Result(
      run=run,
      status=status,
      epochs=epoch,
      best_bound=bound if math.isfinite(bound) else None,
      best_epoch=int(state.best.epoch[index]),
      failed_step=failed_step,
    )
    if status == "finished":
      return
    where = f" at step {failed_step}" if failed_step is not None else ""
    label = overrides.place(self.group.configs[index])
    self.log.say(
      f"run {run} ({label.panel}: {label.label}) {status} in epoch {epoch}{where};"
      f" {len(self.active)} of the group's {len(self.ended)} runs go on"
    )

  def save(self, state: TrainState, epoch: int) -> None:
    """Saves the state of the group's own runs, without what fills up devices."""
    if state.failed.shape[0] != len(self.ended):
      state = vmapped.first_rows(state, len(self.ended))
    ended = [row and dataclasses.asdict(row) for row in self.ended]
    self.checkpoints.save(
      int(state.step),
      state.best.parameters._asdict(),
      snapshot.training_tree(state),
      {"runs": self.group.runs, "ended": ended},
    )

  def export(self, state: TrainState) -> list[Result]:
    """Writes every run's best weights with the batch statistics of the training set."""
    self.log.doing("batch statistics")
    run = self.stack.run
    statistics = self.program.population_statistics(
      state.best.parameters,
      random.named(run.key, "population"),
      run.infusion,
      self.images,
      self.labels["train"],
    )
    parameters, statistics = jax.device_get((state.best.parameters, statistics))
    results = [result for result in self.ended if result is not None]
    for index, result in enumerate(results):
      if result.best_bound is None:
        continue
      config = self.group.configs[index]
      own = vmapped.row(parameters, index)
      infusion = make_infusion(config, self.dataset).learned(own.per_step)
      weights = Weights(own, vmapped.row(statistics, index), infusion)
      self._export_run(config, result, weights)
    return results

  def _export_run(self, config: Config, result: Result, weights: Weights) -> None:
    folder = self.sweep.run(result.run)
    # Removes the remains of an interrupted launch.
    shutil.rmtree(folder, ignore_errors=True)
    checkpoints = Checkpoints(folder, write=True)
    about = {
      "config": config.to_dict(),
      "dataset": self.dataset.name,
      "image_shape": list(self.dataset.image_shape),
      "levels": self.dataset.levels,
      "epoch": result.epochs,
      "best_bound": result.best_bound,
      "best_epoch": result.best_epoch,
      "statistics": "population",
      **user_code.described(config.model.name),
    }
    step = result.epochs * self.per_epoch
    checkpoints.export(step, stored.tree_of(weights), about)
    checkpoints.close()
