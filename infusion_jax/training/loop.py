"""The host's side of training: epochs, measurements, pictures, checkpoints.

Order of an epoch: steps, measure, write metrics, draw pictures, save. Step
counter, state and data cursor therefore always agree, and a run resumed from
any checkpoint ends with the very bits of an undisturbed one.
"""

import contextlib
import dataclasses
import logging
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jax.sharding import Mesh

from infusion_jax import pixels, random, sampling
from infusion_jax.chain import Parameters
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.metrics import parzen
from infusion_jax.sampling import Weights
from infusion_jax.storage import files
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import Checkpoints, newest_intact
from infusion_jax.training import (
  devices,
  hosts,
  signals,
  snapshot,
  workdir,
)
from infusion_jax.training.devices import Images
from infusion_jax.training.metrics_log import MetricsWriter, Silent
from infusion_jax.training.nonfinite import NonFiniteError, explain
from infusion_jax.training.programs import Program, compiled
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

#: Seconds of work between two looks at signals and the progress bar.
_CHUNK_SECONDS = 1.0
_SAMPLES_FOLDER = "samples"
_PREVIEW_IMAGES = 64
_PREVIEW_CHAINS = 8
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


@dataclasses.dataclass
class _Session:
  """What the functions of one launch share."""

  config: Config
  dataset: Dataset
  workdir: pathlib.Path
  recipe: Recipe
  run: Run
  program: Program
  checkpoints: Checkpoints
  writer: MetricsWriter | Silent
  bar: tqdm.tqdm
  asked: Callable[[], bool]
  images: Images
  validation: Images
  monitor: Images
  chunk: int = 1
  start: PyTree = None
  tensorboard: bool = False
  left_out: set[int] = dataclasses.field(default_factory=set)

  @property
  def per_epoch(self) -> int:
    return steps_per_epoch(self.config.train, self.dataset)


def fit(
  config: Config,
  dataset: Dataset,
  folder: pathlib.Path,
  *,
  tensorboard: bool = False,
  progress: bool = True,
  mesh: Mesh | None = None,
) -> Outcome:
  """Trains a run in its folder, from its last checkpoint if there is one.

  Args:
    config: the run.
    dataset: its images.
    folder: the workdir; see `workdir.claim`.
    tensorboard: also write TensorBoard event files.
    progress: show a progress bar on stderr.
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
    recipe, run = make_recipe(config, dataset, mesh), make_run(config, dataset)
    start = _initial_parameters(config, recipe)
    claimed = workdir.claimed(folder, config)
    hosts.on_first(lambda: stack.enter_context(claimed))
    try:
      return _fit(
        config, dataset, folder, recipe, run, start, tensorboard, progress, asked
      )
    except OSError as error:
      raise workdir.unwritable(folder, error) from error


def _fit(
  config: Config,
  dataset: Dataset,
  folder: pathlib.Path,
  recipe: Recipe,
  run: Run,
  start: PyTree,
  tensorboard: bool,
  progress: bool,
  asked: Callable[[], bool],
) -> Outcome:
  """`fit` in a folder that is this run's."""
  mesh = recipe.mesh
  hosts.on_first(lambda: files.clear_temporary(folder / _SAMPLES_FOLDER / "epoch_*"))
  checkpoints = _open_checkpoints(config, dataset, folder)
  step, state = _latest_state(checkpoints, recipe, run, start)
  writer = _open_writer(folder, step, tensorboard)
  total = config.train.num_epochs * steps_per_epoch(config.train, dataset)
  quiet = not progress or not hosts.is_first()
  bar = tqdm.tqdm(total=total, initial=step, unit="step", disable=quiet)
  session = None
  try:
    session = _Session(
      config=config,
      dataset=dataset,
      workdir=folder,
      recipe=recipe,
      run=devices.copied(run, mesh),
      program=compiled(recipe),
      checkpoints=checkpoints,
      writer=writer,
      bar=bar,
      # A signal to one process stops all.
      asked=lambda: hosts.any_of(asked()),
      images=devices.shared(dataset.train, mesh),
      validation=devices.shared(dataset.validation, mesh),
      monitor=devices.shared(dataset.train[: config.train.monitor_images], mesh),
      start=start,
      tensorboard=tensorboard,
    )
    return _train_around_trouble(session, devices.copied(state, mesh))
  finally:
    bar.close()
    if session:
      writer = session.writer
    writer.close()
    checkpoints.close()


def _open_writer(
  folder: pathlib.Path, step: int, tensorboard: bool
) -> MetricsWriter | Silent:
  writer = hosts.on_first(lambda: MetricsWriter(folder, step, tensorboard=tensorboard))
  return writer or Silent()


def _train_around_trouble(session: _Session, state: TrainState) -> Outcome:
  """Trains; where a number is not finite, as `train.on_nonfinite` says."""
  while True:
    try:
      return _train(session, state)
    except NonFiniteError as error:
      _judge(session, error.step)
      step, state = _restored(session)
      session.writer.close()
      session.writer = _open_writer(session.workdir, step, session.tensorboard)
      session.bar.reset()
      session.bar.update(step)


def _restored(session: _Session) -> tuple[int, TrainState]:
  """The state of the last checkpoint, or of the beginning."""
  run = devices.local(session.run, session.recipe.mesh)
  step, state = _latest_state(session.checkpoints, session.recipe, run, session.start)
  return step, devices.copied(state, session.recipe.mesh)


def _judge(session: _Session, step: int) -> None:
  """Leaves a mini-batch out, or ends training, and says what was wrong with it.

  Raises:
    UserError: training ends.
  """
  # All that led there can be repeated: nothing of it had to be kept.
  _, state = _restored(session)
  while int(state.step) < step:
    left = session.per_epoch - int(state.step) % session.per_epoch
    state, _ = _advanced(session, state, min(left, step - int(state.step)))
  mesh = session.recipe.mesh
  run, state = devices.local(session.run, mesh), devices.local(state, mesh)
  told = explain(session.recipe, run, session.dataset.train, state)
  epoch = step // session.per_epoch
  told = f"{told} at step {step} (epoch {epoch + 1})"
  if session.config.train.on_nonfinite == "stop":
    raise UserError(
      f"{told}; {_last_good(session)}; a smaller train.learning_rate, train.clip = 1 or"
      " train.on_nonfinite = rollback usually helps"
    )
  session.left_out.add(step)
  count = sum(other // session.per_epoch == epoch for other in session.left_out)
  if count > max(1, _MOST_LEFT_OUT * session.per_epoch):
    raise UserError(
      f"{told}, as in {count - 1} other steps of this epoch, and train.on_nonfinite ="
      f" rollback leaves out a tenth of an epoch at most; {_last_good(session)}"
    )
  _LOGGER.warning("%s; back to the last checkpoint, and on without this step", told)


def _advanced(
  session: _Session, state: TrainState, most: int
) -> tuple[TrainState, int]:
  """At most so many steps of one epoch, and how many; one left out is a step, too."""
  step = int(state.step)
  if step in session.left_out:
    return state._replace(step=state.step + 1), 1
  size = min([most, *(other - step for other in session.left_out if other > step)])
  state = session.program.train_steps(
    state, session.run, session.images, np.asarray(size, np.int32)
  )
  return state, size


def check_fits(config: Config, dataset: Dataset) -> None:
  """Raises UserError where a batch is larger than the training set."""
  if config.train.batch_size > len(dataset.train):
    raise UserError(
      f"train.batch_size is {config.train.batch_size}; the training split of"
      f" {dataset.name} has only {len(dataset.train)} images"
    )


def _initial_parameters(config: Config, recipe: Recipe) -> Any:
  if not config.train.init_from:
    return None
  return stored.of_run(config.train.init_from, recipe.network).parameters


def _open_checkpoints(
  config: Config, dataset: Dataset, folder: pathlib.Path
) -> Checkpoints:
  """For writing on the first process; the others then find what it has cleared."""
  keep = config.train.keep_every * steps_per_epoch(config.train, dataset)
  opened = hosts.on_first(
    lambda: Checkpoints(folder, keep_period=keep or None, write=True)
  )
  return opened or Checkpoints(folder)


def _latest_state(
  checkpoints: Checkpoints, recipe: Recipe, run: Run, start: Any
) -> tuple[int, TrainState]:
  # Other processes may see the folder as it was a moment ago.
  found = hosts.on_first(lambda: _newest_state(checkpoints, recipe, run))
  step = hosts.of_first(found[0] if found else -1)
  if step < 0:
    return 0, initial_state(recipe, run.key, start)
  return found or (step, snapshot.restore(checkpoints, step, recipe, run))


def _newest_state(
  checkpoints: Checkpoints, recipe: Recipe, run: Run
) -> tuple[int, TrainState] | None:
  """The newest state that is not damaged; damaged ones make room for its successors."""
  steps = checkpoints.steps()
  if not steps:
    return None
  step, state, damaged = newest_intact(
    steps, lambda step: snapshot.restore(checkpoints, step, recipe, run)
  )
  for other in damaged:
    checkpoints.set_aside(other)
  return step, state


def _train(session: _Session, state: TrainState) -> Outcome:
  """Epoch by epoch to the end, or to the end of patience."""
  train = session.config.train
  epoch = int(state.step) // session.per_epoch
  while epoch < train.num_epochs and not _stalled(state, epoch, train.patience):
    began = time.perf_counter()
    state = _steps_of_epoch(session, state)
    epoch += 1
    state = _measure(session, state, epoch)
    if train.parzen_every and epoch % train.parzen_every == 0:
      _on_first(session, _measure_parzen, _with_own_statistics(session, state), epoch)
    last = epoch == train.num_epochs or _stalled(state, epoch, train.patience)
    weights = _best_weights(session, state, population=last)
    if last or (train.preview_every and epoch % train.preview_every == 0):
      _on_first(session, _preview, weights, epoch)
    if last or epoch % train.checkpoint_every == 0:
      _save(session, state, weights, epoch, finished=last)
    if hosts.is_first():
      _note_time(session, epoch, time.perf_counter() - began)
  best_epoch = int(state.best.epoch)
  return Outcome(epoch, float(state.best.bound), best_epoch, epoch < train.num_epochs)


def _on_first(
  session: _Session, action: Callable[..., None], tree: PyTree, epoch: int
) -> None:
  """`action(session, tree, epoch)` by one process, on one device of its own."""
  mesh = session.recipe.mesh
  own = dataclasses.replace(session, run=devices.local(session.run, mesh))
  hosts.on_first(lambda: action(own, devices.local(tree, mesh), epoch))


def _stalled(state: TrainState, epoch: int, patience: int) -> bool:
  return bool(patience) and epoch - int(state.best.epoch) >= patience


def _steps_of_epoch(session: _Session, state: TrainState) -> TrainState:
  """The steps left in the current epoch, in chunks of about a second."""
  left = session.per_epoch - int(state.step) % session.per_epoch
  while left:
    if session.asked():
      _stop(session, state)
    began = time.perf_counter()
    state, size = _advanced(session, state, min(session.chunk, left))
    failed = int(state.failed)  # Waits for the device.
    # All processes take equally many steps.
    seconds = hosts.of_first(time.perf_counter() - began)
    if failed >= 0:
      raise NonFiniteError(failed)
    session.chunk = max(1, min(2 * session.chunk, int(_CHUNK_SECONDS * size / seconds)))
    session.bar.update(size)
    left -= size
  return state


def _last_good(session: _Session) -> str:
  steps = session.checkpoints.steps()
  if not steps:
    return "no checkpoint had been saved before"
  return f"the last good checkpoint is that of step {steps[-1]}"


def _stop(session: _Session, state: TrainState) -> None:
  """Saves in the middle of an epoch and gives up the run to be resumed."""
  step = int(state.step)
  epoch = step // session.per_epoch
  if hosts.of_first(step not in session.checkpoints.steps()):
    weights = _best_weights(session, state, population=False)
    _save(session, state, weights, epoch, finished=False)
  raise signals.Stopped(f"stopped at step {step}, which is saved")


def _measure(session: _Session, state: TrainState, epoch: int) -> TrainState:
  """Bounds on validation and training images; keeps the best parameters."""
  program, run, step = session.program, session.run, int(state.step)
  key = random.named(run.key, "validation")
  rows = {"validation": session.validation, "train": session.monitor}
  measured = {
    split: jax.device_get(program.mean_terms(state.current, key, run.infusion, images))
    for split, images in rows.items()
    if len(images)
  }
  totals = jax.device_get(state.totals)
  measured.setdefault("train", {}).update(
    loss=totals.loss / totals.count,
    gradient_norm=totals.gradient_norm / totals.count,
  )
  if totals.count < session.per_epoch:
    measured["train"]["left_out"] = session.per_epoch - totals.count
  for split, values in measured.items():
    values = {name: float(value) for name, value in values.items()}
    _check_measured(session, split, values, epoch)
    session.writer.write(step, epoch, split, values)
  bound = measured["validation"]["bound"]
  state = program.end_epoch(state, bound, np.int32(epoch))
  session.bar.set_postfix(
    epoch=epoch, bound=f"{bound:.1f}", best=f"{float(state.best.bound):.1f}"
  )
  return state


def _measure_parzen(session: _Session, state: TrainState, epoch: int) -> None:
  """Parzen estimate of the validation images from the current parameters."""
  session.bar.set_description("Parzen")
  network = session.recipe.network
  weights = Weights(state.current, state.statistics, session.run.infusion)
  # The same chains at every epoch: the curve then shows the training alone.
  key = random.named(session.run.key, "parzen")
  keys = jax.random.split(key, session.config.train.parzen_samples)
  means = np.concatenate(
    list(sampling.means(network, weights, keys, network.num_steps))
  )
  clean = pixels.scaled(jnp.asarray(session.dataset.validation), session.dataset.levels)
  found = parzen.evaluate(np.asarray(clean), means)
  values = {"parzen": found.mean, "parzen_error": found.standard_error}
  session.writer.write(int(state.step), epoch, "validation", values)
  session.bar.set_description("")


def _check_measured(
  session: _Session, split: str, values: dict[str, float], epoch: int
) -> None:
  for name, value in values.items():
    if not math.isfinite(value):
      raise UserError(
        f"{name} on {split} is {value} after epoch {epoch}; {_last_good(session)}"
      )


def _best_weights(session: _Session, state: TrainState, population: bool) -> Weights:
  """The best parameters with running statistics, or with the training set's."""
  statistics = state.best.statistics
  if population:
    statistics = _population_statistics(session, state.best.parameters)
  return Weights(state.best.parameters, statistics, session.run.infusion)


def _with_own_statistics(session: _Session, state: TrainState) -> TrainState:
  """The state; averaged weights get statistics of the training set.

  The running statistics are those of the weights that are trained, not averaged.
  """
  if state.average is None:
    return state
  return state._replace(statistics=_population_statistics(session, state.average))


def _population_statistics(session: _Session, parameters: Parameters) -> PyTree:
  session.bar.set_description("batch statistics")
  return session.program.population_statistics(
    parameters,
    random.named(session.run.key, "population"),
    session.run.infusion,
    session.images,
  )


def _save(
  session: _Session, state: TrainState, weights: Weights, epoch: int, *, finished: bool
) -> None:
  about = {
    "config": session.config.to_dict(),
    "dataset": session.dataset.name,
    "image_shape": list(session.dataset.image_shape),
    "levels": session.dataset.levels,
    "epoch": epoch,
    "best_bound": _json_number(float(state.best.bound)),
    "best_epoch": int(state.best.epoch),
    "statistics": "population" if finished else "running",
  }
  trees = stored.tree_of(weights), snapshot.training_tree(state)
  trees = devices.local(trees, session.recipe.mesh)
  hosts.on_first(lambda: workdir.check_there(session.workdir))
  hosts.on_first(lambda: session.checkpoints.save(int(state.step), *trees, about))


def _json_number(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _preview(session: _Session, weights: Weights, epoch: int) -> None:
  """A grid of sample means and a strip of chains, under `samples/`."""
  folder = session.workdir / _SAMPLES_FOLDER
  folder.mkdir(exist_ok=True)
  network, num_steps = session.recipe.network, session.recipe.network.num_steps
  keys = jax.random.split(random.named(session.run.key, "preview"), _PREVIEW_IMAGES)
  chains = _preview_chains(network, weights, keys, num_steps)
  plots.save(
    folder / f"epoch_{epoch:05d}_samples.png", plots.grid(np.asarray(chains.means[-1]))
  )
  rows = np.asarray(chains.means[:, :_PREVIEW_CHAINS]).swapaxes(0, 1)
  plots.save(folder / f"epoch_{epoch:05d}_chains.png", plots.strip(rows))


_preview_chains = jax.jit(sampling.chains, static_argnums=(0, 3))


def _note_time(session: _Session, epoch: int, seconds: float) -> None:
  """Wall times have a file of their own: metrics are the same at every repeat."""
  row = {"epoch": epoch, "seconds": round(seconds, 3)}
  files.append_json(session.workdir / "timing.jsonl", row)
