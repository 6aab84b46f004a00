"""The host's side of a sweep: one group of runs, trained and measured together.

Epochs go as in `loop`: steps, measure, write, save. All runs take the same
steps; one that has diverged or run out of patience is frozen: its best
parameters, its bound and its curve no longer change. Its row of the program goes
on computing, as rows of one program must, and nobody looks at it.
"""

import dataclasses
import functools
import math
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from infusion_jax import datasets, likelihood, random
from infusion_jax.config import Config, DataConfig
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import outputs
from infusion_jax.errors import UserError
from infusion_jax.likelihood import importance
from infusion_jax.sampling import Weights
from infusion_jax.storage import files
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import (
  FOLDER,
  Checkpoints,
  newest_intact,
)
from infusion_jax.sweep import cost, overrides, vmapped
from infusion_jax.sweep.ledger import (
  SAMPLES_FILE,
  TIMING_FILE,
  Folder,
  Group,
  Plan,
  Result,
)
from infusion_jax.sweep.vmapped import Stack, StackedProgram
from infusion_jax.training import signals, snapshot
from infusion_jax.training.loop import check_fits
from infusion_jax.training.metrics_log import MetricsWriter
from infusion_jax.training.state import (
  Recipe,
  TrainState,
  make_infusion,
  make_rates,
  make_recipe,
  make_run,
  steps_per_epoch,
)

Array = jax.Array
PyTree = Any

#: Seconds of work between two looks at signals and the progress bar. Runs computed in
#: turn are copied out of the group and back once a chunk, so it should not be short.
_CHUNK_SECONDS = 5.0
#: Infusion chains of an image and model held at a time.
_CHAIN_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How the runs of a sweep are measured after training.

  Attributes:
    num_images: of the test split, from its beginning; 0: all.
    num_chains: infusion chains an image, for the lower bound.
    seed: decides all noise of the measurements.
    num_samples: pictures a run, for the rows of table A.1.
  """

  num_images: int = 0
  num_chains: int = 10
  seed: int = 0
  num_samples: int = 20

  def __post_init__(self) -> None:
    least = {"num_images": 0, "num_chains": 1, "seed": 0, "num_samples": 1}
    for name, smallest in least.items():
      if getattr(self, name) < smallest:
        raise UserError(
          f"{name} is {getattr(self, name)}; it must be at least {smallest}"
        )


@dataclasses.dataclass(frozen=True)
class Job:
  """A group to be trained and measured, as it is handed to a worker.

  Attributes:
    workdir: of the sweep; every worker must reach it.
    group: the runs.
    protocol: how to measure them.
    progress: whether to show progress bars on stderr.
    title: what progress bars call the group.
    together: runs that a device computes at once; 0: all, None: chosen for it.
  """

  workdir: str
  group: Group
  protocol: Protocol = Protocol()
  progress: bool = False
  title: str = ""
  together: int | None = None


def run(job: Job) -> str:
  """Trains and measures a group, from where it was left; what is done is skipped.

  Returns:
    The group's name.

  Raises:
    UserError: a run does not fit its data, or the device's memory is too small.
    signals.Stopped: SIGTERM or SIGINT came; the state is saved.
  """
  folder = Folder(pathlib.Path(job.workdir))
  dataset = load_dataset(job.group.configs[0].data)
  try:
    with signals.asking() as asked:
      if folder.results(job.group) is None:
        _train_group(folder, job, dataset, asked)
      # What the runs have become lies in folders of their own now.
      shutil.rmtree(folder.group(job.group) / FOLDER, ignore_errors=True)
      if folder.evaluation(job.group, job.protocol) is None:
        _evaluate_group(folder, job, dataset, asked)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    raise UserError(
      f"the device's memory is too small for group {job.group.name}"
      f" ({job.group.title}); --memory_gb below what --dry_run prints for it splits"
      " groups that have not begun"
    ) from error
  return job.group.name


@functools.lru_cache(maxsize=2)
def load_dataset(data: DataConfig) -> Dataset:
  """The data set of a run; the last two are kept."""
  return datasets.from_config(data)


def check(configs: Sequence[Config]) -> None:
  """Raises UserError where a run does not fit its data; nothing is computed."""
  for config in configs:
    make_rates(config.chain)
    dataset = load_dataset(config.data)
    check_fits(config, dataset)
    recipe = make_recipe(config, dataset)
    if config.train.init_from:
      stored.of_run(config.train.init_from, recipe.network)


def group_cost(group: Group) -> cost.Cost:
  """The cost of one run of a group."""
  config = group.configs[0]
  dataset = load_dataset(config.data)
  return cost.estimate(make_recipe(config, dataset), dataset)


def split(plan: Plan, limit: int) -> Plan:
  """Cuts new groups into parts that fit in `limit` bytes a device.

  Raises:
    UserError: a single run does not fit.
  """
  devices = jax.local_device_count()
  if jax.default_backend() == "cpu":
    # The cores of a machine share its memory.
    limit //= devices
  parts = []
  for group in plan.new:
    one = group_cost(group)
    most = cost.most_runs(one, limit, devices)
    if not most:
      raise UserError(
        f"memory is limited to {limit / 1e9:.3g} GB; one run with"
        f" T = {group.configs[0].chain.num_steps} needs about"
        f" {cost.total_bytes(one, 1) / 1e9:.3g} GB"
      )
    parts += [Group(tuple(part)) for part in overrides.evenly(group.configs, most)]
  return dataclasses.replace(plan, new=tuple(parts))


@dataclasses.dataclass
class _Session:
  """What the functions of one group share.

  `ended` holds a `Result` for every run that no longer trains, else None.
  """

  group: Group
  dataset: Dataset
  folder: Folder
  recipe: Recipe
  stack: Stack
  program: StackedProgram
  checkpoints: Checkpoints
  writer: MetricsWriter
  bar: tqdm.tqdm
  asked: Callable[[], bool]
  images: Array
  validation: Array
  ended: list[Result | None]
  chunk: int = 1

  @property
  def per_epoch(self) -> int:
    return steps_per_epoch(self.group.configs[0].train, self.dataset)

  @property
  def count(self) -> int:
    """R, the runs; the stack has more where devices get equal shares."""
    return len(self.group.configs)

  @property
  def active(self) -> list[int]:
    return [i for i, result in enumerate(self.ended) if result is None]


def _train_group(
  folder: Folder, job: Job, dataset: Dataset, asked: Callable[[], bool]
) -> None:
  """Trains a group from its last checkpoint, if there is one, to its end."""
  group = job.group
  config = group.configs[0]
  mesh = vmapped.make_mesh(len(group.configs))
  rows = _filled_up(group.configs)
  recipe = make_recipe(config, dataset)
  stack = vmapped.stack([make_run(row, dataset) for row in rows])
  program = vmapped.compiled(recipe, stack.axes, mesh, _together(job))
  checkpoints = Checkpoints(folder.group(group), write=True)
  step, state, ended = _latest(checkpoints, program, stack, rows, recipe, group)
  writer = MetricsWriter(folder.group(group), step)
  total = config.train.num_epochs * steps_per_epoch(config.train, dataset)
  bar = tqdm.tqdm(
    total=total,
    initial=step,
    unit="step",
    desc=job.title or group.title,
    disable=not job.progress,
  )
  session = _Session(
    group=group,
    dataset=dataset,
    folder=folder,
    recipe=recipe,
    stack=stack._replace(run=program.place_run(stack.run)),
    program=program,
    checkpoints=checkpoints,
    writer=writer,
    bar=bar,
    asked=asked,
    images=program.place_images(dataset.train),
    validation=program.place_images(dataset.validation),
    ended=ended,
  )
  try:
    state = _epochs(session, state)
    results = _export(session, state)
  finally:
    bar.close()
    writer.close()
    checkpoints.close()
  folder.write_results(group, results)


def _latest(
  checkpoints: Checkpoints,
  program: StackedProgram,
  stack: Stack,
  rows: Sequence[Config],
  recipe: Recipe,
  group: Group,
) -> tuple[int, TrainState, list[Result | None]]:
  """The step, state and ended runs of the last checkpoint, or of the beginning."""
  fresh = program.initial_state
  steps = checkpoints.steps()
  if not steps:
    state = fresh(program.place_keys(stack.keys))
    for index, config in enumerate(rows):
      if config.train.init_from:
        weights = stored.of_run(config.train.init_from, recipe.network)
        state = vmapped.starting_from(state, index, weights.parameters)
    return 0, program.place_state(state), [None] * len(group.configs)
  # Stored are the group's own runs, without those that fill up the devices.
  shapes = jax.eval_shape(fresh, stack.keys)
  like = vmapped.shapes_of_first(shapes, len(group.configs))

  def read(step: int) -> tuple[list, TrainState, dict[str, Any]]:
    ended = [row and Result(**row) for row in checkpoints.about(step)["ended"]]
    training = checkpoints.training(step, snapshot.training_tree(like))
    model = checkpoints.model(step, like.best.parameters._asdict())
    return ended, TrainState(**training), model

  step, (ended, restored, model), damaged = newest_intact(steps, read)
  for other in damaged:
    checkpoints.set_aside(other)
  best = restored.best._replace(parameters=type(like.best.parameters)(**model))
  state = vmapped.padded(restored._replace(best=best), len(rows))
  return step, program.place_state(state), ended


def _epochs(session: _Session, state: TrainState) -> TrainState:
  """Epoch by epoch until no run trains any more."""
  train = session.group.configs[0].train
  every = min(config.train.checkpoint_every for config in session.group.configs)
  epoch = int(state.step) // session.per_epoch
  while session.active:
    began = time.perf_counter()
    state = _steps_of_epoch(session, state)
    epoch += 1
    state = _measure(session, state, epoch)
    if epoch == train.num_epochs:
      _end_all(session, state, epoch)
    if not session.active or epoch % every == 0:
      _save(session, state)
    _note_time(session, epoch, time.perf_counter() - began)
  return state


def _steps_of_epoch(session: _Session, state: TrainState) -> TrainState:
  """The steps left in the current epoch, in chunks of some seconds."""
  left = session.per_epoch - int(state.step) % session.per_epoch
  while left:
    if session.asked():
      _stop(session, state)
    size = min(session.chunk, left)
    began = time.perf_counter()
    state = session.program.train_steps(
      state, session.stack.run, session.images, jnp.asarray(size)
    )
    state.failed.block_until_ready()
    seconds = time.perf_counter() - began
    session.chunk = max(1, min(2 * session.chunk, int(_CHUNK_SECONDS * size / seconds)))
    session.bar.update(size)
    left -= size
  return state


def _stop(session: _Session, state: TrainState) -> None:
  """Saves, perhaps in the middle of an epoch, and gives up the group."""
  step = int(state.step)
  if step not in session.checkpoints.steps():
    _save(session, state)
  raise signals.Stopped(
    f"stopped at step {step} of group {session.group.name}, which is saved"
  )


def _measure(session: _Session, state: TrainState, epoch: int) -> TrainState:
  """Validates all runs, freezes those that end, keeps the others' best."""
  run = session.stack.run
  key = random.named(run.key, "validation")
  terms = session.program.mean_terms(
    state.current, key, run.infusion, session.validation
  )
  bounds, totals, failed = jax.device_get((terms["bound"], state.totals, state.failed))
  bounds = np.array(bounds)
  _end_diverged(session, state, bounds, failed, epoch)
  frozen = sorted(set(range(len(bounds))) - set(session.active))
  # Not a number is never better: nothing of a frozen run changes any more.
  bounds[frozen] = np.nan
  rows = {
    "validation": bounds,
    "loss": totals.loss / totals.count,
    "gradient_norm": totals.gradient_norm / totals.count,
  }
  for split_name, values in rows.items():
    named = {session.group.runs[i]: float(values[i]) for i in session.active}
    session.writer.write(int(state.step), epoch, split_name, named)
  state = session.program.end_epoch(state, jnp.asarray(bounds), np.int32(epoch))
  _end_stalled(session, state, epoch)
  session.bar.set_postfix(
    epoch=epoch,
    training=len(session.active),
    best=f"{float(np.max(jax.device_get(state.best.bound))):.1f}",
  )
  return state


def _end_diverged(
  session: _Session,
  state: TrainState,
  bounds: np.ndarray,
  failed: np.ndarray,
  epoch: int,
) -> None:
  """Freezes runs whose loss, gradient or validation bound is not finite."""
  for i in session.active:
    if failed[i] < 0 and math.isfinite(bounds[i]):
      continue
    step = int(failed[i]) if failed[i] >= 0 else int(state.step)
    _end(session, state, i, "diverged", epoch, step)


def _end_stalled(session: _Session, state: TrainState, epoch: int) -> None:
  """Freezes runs that have run out of patience."""
  best = jax.device_get(state.best.epoch)
  for i in session.active:
    train = session.group.configs[i].train
    stalled = train.patience and epoch - best[i] >= train.patience
    if stalled and epoch < train.num_epochs:
      _end(session, state, i, "stopped early", epoch)


def _end_all(session: _Session, state: TrainState, epoch: int) -> None:
  for i in session.active:
    _end(session, state, i, "finished", epoch)


def _end(
  session: _Session,
  state: TrainState,
  index: int,
  status: str,
  epoch: int,
  failed_step: int | None = None,
) -> None:
  """Writes down how a run ended, and says so where it is not as planned."""
  bound = float(state.best.bound[index])
  run = session.group.runs[index]
  session.ended[index] = Result(
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
  label = overrides.place(session.group.configs[index])
  tqdm.tqdm.write(
    f"run {run} ({label.panel}: {label.label}) {status} in epoch {epoch}{where};"
    f" {len(session.active)} of the group's {session.count} runs go on",
    file=sys.stderr,
  )


def _save(session: _Session, state: TrainState) -> None:
  """Saves the state of the group's own runs, without what fills up devices."""
  if state.failed.shape[0] != session.count:
    state = vmapped.first_rows(state, session.count)
  about = {
    "runs": session.group.runs,
    "ended": [row and dataclasses.asdict(row) for row in session.ended],
  }
  session.checkpoints.save(
    int(state.step),
    state.best.parameters._asdict(),
    snapshot.training_tree(state),
    about,
  )


def _export(session: _Session, state: TrainState) -> list[Result]:
  """Writes every run's best weights with the batch statistics of the training set."""
  session.bar.set_description("batch statistics")
  run = session.stack.run
  statistics = session.program.population_statistics(
    state.best.parameters,
    random.named(run.key, "population"),
    run.infusion,
    session.images,
  )
  parameters, statistics = jax.device_get((state.best.parameters, statistics))
  results = [result for result in session.ended if result is not None]
  for index, result in enumerate(results):
    if result.best_bound is None:
      continue
    config = session.group.configs[index]
    weights = Weights(
      vmapped.row(parameters, index),
      vmapped.row(statistics, index),
      make_infusion(config.chain, session.dataset),
    )
    _export_run(session, config, result, weights)
  return results


def _export_run(
  session: _Session, config: Config, result: Result, weights: Weights
) -> None:
  folder = session.folder.run(result.run)
  # What an interrupted launch left of it.
  shutil.rmtree(folder, ignore_errors=True)
  checkpoints = Checkpoints(folder, write=True)
  about = {
    "config": config.to_dict(),
    "dataset": session.dataset.name,
    "image_shape": list(session.dataset.image_shape),
    "levels": session.dataset.levels,
    "epoch": result.epochs,
    "best_bound": result.best_bound,
    "best_epoch": result.best_epoch,
    "statistics": "population",
  }
  step = result.epochs * session.per_epoch
  checkpoints.export(step, stored.tree_of(weights), about)
  checkpoints.close()


def _note_time(session: _Session, epoch: int, seconds: float) -> None:
  """Wall times have a file of their own: results are the same at every repeat."""
  row = {"epoch": epoch, "seconds": round(seconds, 3)}
  files.append_json(session.folder.group(session.group) / TIMING_FILE, row)


def _evaluate_group(
  folder: Folder, job: Job, dataset: Dataset, asked: Callable[[], bool]
) -> None:
  """Measures the runs of a trained group on test images, and draws from them.

  The numbers are those of `experiments.evaluate` on the run's own folder with the
  same protocol.
  """
  group, protocol = job.group, job.protocol
  recipe = make_recipe(group.configs[0], dataset)
  results = folder.results(group) or []
  runs = [result.run for result in results if result.best_bound is not None]
  measured: dict[str, Any] = {}
  samples: dict[str, np.ndarray] = {}
  if runs:
    weights = _load_weights(folder, runs, recipe)
    how = {
      "network": recipe.network,
      "mesh": vmapped.make_mesh(len(runs)),
      "together": _together(job),
    }
    measure = functools.partial(vmapped.bounds, **how)
    bounds = _test_bounds(measure, weights, recipe, dataset, job, asked)
    key = random.named(jax.random.key(protocol.seed), "samples")
    keys = jax.random.split(key, protocol.num_samples)
    means = np.asarray(vmapped.sample_means(keys, weights, **how))
    samples = dict(zip(runs, means, strict=False))
    measured = {
      run: {
        "test_bound": summary.mean,
        "standard_error": summary.standard_error,
      }
      for run, summary in zip(runs, map(likelihood.summarize, bounds), strict=False)
    }
  outputs.save_arrays(folder.group(group) / SAMPLES_FILE, samples)
  folder.write_evaluation(group, protocol, measured)


def _load_weights(folder: Folder, runs: Sequence[str], recipe: Recipe) -> Weights:
  """The weights of runs, stacked: leaves [R, ...], or more to fill the devices."""
  rows = [stored.of_run(str(folder.run(run)), recipe.network) for run in runs]
  rows = _filled_up(rows)
  weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
  return vmapped.spread(weights, vmapped.make_mesh(len(runs)))


def _filled_up(rows: Sequence[Any]) -> list[Any]:
  """Rows, the last one repeated until all devices have equal shares."""
  return [*rows, *rows[-1:] * (-len(rows) % vmapped.device_count(len(rows)))]


def _together(job: Job) -> int:
  return vmapped.default_together() if job.together is None else job.together


def _test_bounds(
  measure: Callable[..., Array],
  weights: Weights,
  recipe: Recipe,
  dataset: Dataset,
  job: Job,
  asked: Callable[[], bool],
) -> np.ndarray:
  """Lower bounds of test images under R models, [R, N] nats."""
  protocol = job.protocol
  images = dataset.test[: protocol.num_images or len(dataset.test)]
  chunk = min(protocol.num_chains, _CHAIN_CHUNK)
  # As many chains at a time as training has.
  batch = max(1, recipe.batch_size // chunk)
  key = random.named(jax.random.key(protocol.seed), "chains")
  parts = []
  with tqdm.tqdm(
    total=len(images), desc="test bound", unit="image", disable=not job.progress
  ) as bar:
    batches = importance.batches(key, images, dataset.levels, 1, batch)
    for _, _, rows, keys, x in batches:
      if asked():
        raise signals.Stopped(
          f"stopped while measuring group {job.group.name}, whose training is saved"
        )
      found = measure(
        keys, weights, x(), num_chains=protocol.num_chains, chunk_size=chunk
      )
      parts.append(np.asarray(found)[:, :rows])
      bar.update(rows)
  return np.concatenate(parts, axis=1)
