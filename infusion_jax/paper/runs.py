"""Models and sweeps that targets share: where their data are, trained once, loaded.

WORKDIR/<scale>/<name>/   the workdir of a run, or of a sweep
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from infusion_jax import evaluation, model
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.model import Model
from infusion_jax.paper.descriptions import Run, Source, Sweep
from infusion_jax.sweep import conductor, cost, ledger, overrides, tables, vmapped
from infusion_jax.sweep.ledger import Folder, SweepProtocol
from infusion_jax.training import devices, loop, precision, programs, workdir
from infusion_jax.training.epochs import time_spent
from infusion_jax.training.state import (
  initial_state,
  make_recipe,
  make_run,
  steps_per_epoch,
)

#: Maps the name of a file of `configs`, such as "cifar10:files", to its values.
Resolve = Callable[[str], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Bench:
  """Where targets are made, and from what.

  Attributes:
    workdir: of all training.
    data: the folder with the data sets.
    scale: of `descriptions.SCALES`.
    resolve: reads configuration files.
    inception: a file of Inception-v3's weights, or "".
    progress: whether to show progress bars on stderr.
  """

  workdir: pathlib.Path
  data: pathlib.Path
  scale: str
  resolve: Resolve
  inception: str = ""
  progress: bool = True

  def folder(self, run: Run | Sweep) -> pathlib.Path:
    """The workdir of a run or sweep."""
    return self.workdir / self.scale / run.name

  def source(self, run: Run | Sweep) -> Source:
    """The first source of a run's data that is there.

    Raises:
      UserError: none is.
    """
    for source in run.sources:
      needed = source.needs or source.files
      if all((self.data / name).exists() for name in needed):
        return source
    wanted = (" and ".join(source.needs or source.files) for source in run.sources)
    raise UserError(
      f"{run.title} needs {', or '.join(wanted)} in the folder {str(self.data)!r},"
      " which does not have it; --data or INFUSION_JAX_DATA name another folder"
    )

  def located(self, source: Source) -> str:
    """The `data.path` of a source."""
    return ",".join(str(self.data / name) for name in source.files)


class Work(NamedTuple):
  """What there is to train of a run or sweep.

  Attributes:
    state: "finished", "begun" or "new".
    epochs: of one model, as "12" or, where they differ, "2 to 6".
    left: floating-point operations that remain, at most.
    done: operations of the epochs done.
    seconds: that these took.
  """

  state: str
  epochs: str
  left: float
  done: float
  seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """A trained model, its data and its folder."""

  run: Run
  model: Model
  dataset: Dataset
  folder: pathlib.Path


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """A trained sweep: its rows, and the protocol of their test bounds."""

  run: Sweep
  rows: list[tables.Row]
  protocol: SweepProtocol
  folder: pathlib.Path


def configs(run: Run | Sweep, bench: Bench) -> list[Config]:
  """The configurations of a run (one) or a sweep.

  Raises:
    UserError: the data are not there, or the description is wrong.
  """
  source = bench.source(run)
  changes = {**source.changes, "data.path": bench.located(source)}
  if isinstance(run, Run):
    base = Config.from_dict(bench.resolve(source.config))
    return [overrides.apply(base, {**changes, **run.changes(bench.scale)})]
  changes |= run.changes[bench.scale]
  found = []
  for panel in run.panels[bench.scale]:
    values = bench.resolve(f"{run.config}:{panel.name}")
    base = overrides.apply(
      Config.from_dict(values["base"]), {**changes, **panel.changes}
    )
    runs = overrides.configs(base, values["runs"])
    found += [one for one in runs if _wanted(one, panel.rates)]
  return found


def _wanted(config: Config, rates: tuple[float, ...]) -> bool:
  return not rates or overrides.place(config).rate in rates


def work(run: Run | Sweep, bench: Bench) -> Work:
  """What there is to train; nothing is computed or written.

  Raises:
    UserError: the data are not there, or the folder holds something else.
  """
  if isinstance(run, Sweep):
    return _sweep_work(run, bench)
  config = configs(run, bench)[0]
  dataset = conductor.load_dataset(config.data)
  recipe = make_recipe(precision.untimed(config), dataset)
  one = cost.estimate(recipe, dataset).flops_per_epoch
  done, seconds = time_spent(bench.folder(run))
  total = config.train.num_epochs
  finished = _is_finished(bench.folder(run), config, dataset)
  left = 0 if finished else max(total - done, 0)
  state = "finished" if finished else ("begun" if done else "new")
  return Work(state, str(total), one * left, one * done, seconds)


def _is_finished(folder: pathlib.Path, config: Config, dataset: Dataset) -> bool:
  """Whether training has come to its end, be it that of patience."""
  try:
    about = model.load(folder).about
  except UserError:
    return False
  if about.get("statistics") != "population":
    return False
  epoch, best = about["epoch"], about["best_epoch"]
  patience = config.train.patience
  return epoch >= config.train.num_epochs or bool(patience and epoch - best >= patience)


def _sweep_work(run: Sweep, bench: Bench) -> Work:
  wanted = configs(run, bench)
  folder = Folder(bench.folder(run))
  plan = ledger.plan(folder, wanted)
  left = finished = spent = 0.0
  for group in plan.groups:
    one = conductor.group_cost(group).flops_per_epoch * len(group.configs)
    done, seconds = time_spent(folder.group(group))
    over = group in plan.finished
    left += 0.0 if over else one * max(group.configs[0].train.num_epochs - done, 0)
    finished, spent = finished + one * done, spent + seconds
  measured = all(
    folder.evaluation(g, _protocol(run, bench)) is not None for g in plan.groups
  )
  state = "finished" if not (plan.begun or plan.new) and measured else "begun"
  epochs = sorted({config.train.num_epochs for config in wanted})
  told = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
  return Work("new" if not finished else state, told, left, finished, spent)


def seconds_per_operation(run: Run | Sweep, bench: Bench) -> float:
  """The pace of training on this machine, from a few steps of the first model.

  Raises:
    UserError: the data are not there.
  """
  config = configs(run, bench)[0]
  dataset = conductor.load_dataset(config.data)
  config, _ = precision.decided(config, dataset, bench.folder(run))
  recipe, numbers = make_recipe(config, dataset), make_run(config, dataset)
  program, images = programs.compiled(recipe), jnp.asarray(dataset.train)
  state = initial_state(recipe, numbers.key)
  one = cost.estimate(recipe, dataset).flops_per_epoch
  seconds = []
  for _ in range(3):
    began = time.perf_counter()
    state = program.train_steps(state, numbers, images, np.asarray(1, np.int32))
    state.failed.block_until_ready()
    seconds.append(time.perf_counter() - began)
  # The first step compiles.
  return min(seconds[1:]) * steps_per_epoch(config.train, dataset) / one


def train(run: Run, bench: Bench) -> Trained:
  """Trains a run, or goes on with it, and loads it; what is done is not repeated.

  Raises:
    UserError: the data are not there, or the folder holds another run.
    signals.Stopped: a signal came; the state is saved.
  """
  config = configs(run, bench)[0]
  dataset = conductor.load_dataset(config.data)
  folder = bench.folder(run)
  if not _is_finished(folder, config, dataset):
    loop.fit(config, dataset, folder, progress=bench.progress)
  return Trained(run, model.load(folder), dataset, folder)


def at_epoch(trained: Trained, epoch: int) -> Model:
  """The model as it was after an epoch that was kept; 0: as it is.

  Batch statistics are those of the whole training set either way.

  Raises:
    UserError: this epoch was not kept.
  """
  if not epoch:
    return trained.model
  kept = model.epochs(trained.folder)
  if epoch not in kept:
    raise UserError(
      f"epoch {epoch} of {trained.folder.name} was not kept; kept are"
      f" {', '.join(map(str, kept))}"
    )
  return evaluation.with_population_statistics(model.load(kept[epoch]), trained.dataset)


def train_sweep(run: Sweep, bench: Bench) -> Table:
  """Trains and measures a sweep, or goes on with it.

  Raises:
    UserError: the data are not there, or the folder holds something else.
    signals.Stopped: a signal came; the state is saved.
  """
  wanted = configs(run, bench)
  folder, protocol = Folder(bench.folder(run)), _protocol(run, bench)
  plan = conductor.planned(folder, wanted, devices.free_memory())
  found = conductor.conduct(folder, plan, protocol, progress=bench.progress)
  return Table(run, found.rows, protocol, folder.path)


def _protocol(run: Sweep, bench: Bench) -> SweepProtocol:
  return SweepProtocol(**run.protocol[bench.scale])


def described(run: Run | Sweep, bench: Bench) -> dict[str, Any]:
  """What decides a run's result, as it becomes part of a target's identity."""
  found: dict[str, Any] = {"runs": [overrides.identity(c) for c in configs(run, bench)]}
  if isinstance(run, Sweep):
    found["protocol"] = dict(run.protocol[bench.scale])
  return found


def facts(run: Run | Sweep, bench: Bench) -> dict[str, Any]:
  """How a trained run came about, ready for JSON and without a path of the machine.

  Raises:
    UserError: the data are not there.
  """
  all_configs = configs(run, bench)
  source = bench.source(run)
  dataset = conductor.load_dataset(all_configs[0].data)
  spent = work(run, bench)
  found = {
    "title": run.title,
    "data": [f"$INFUSION_JAX_DATA/{name}" for name in source.files],
    "training_images": len(dataset.train),
    "epochs": spent.epochs,
    "steps_per_epoch": steps_per_epoch(all_configs[0].train, dataset),
    "training_seconds": round(spent.seconds, 1),
    "trained_on": _devices(bench.folder(run)),
    "config": {**run.changes(bench.scale)}
    if isinstance(run, Run)
    else {**run.changes[bench.scale]},
    "config_file": f"configs/{(source if isinstance(run, Run) else run).config}",
  }
  if isinstance(run, Run):
    about = model.load(bench.folder(run)).about
    found |= {
      "epochs": str(about["epoch"]),
      "best_bound": about["best_bound"],
      "best_epoch": about["best_epoch"],
    }
  return found


def _devices(folder: pathlib.Path) -> list[str]:
  """Commit and device of every launch that trained in a folder, each once."""
  launches = workdir.read_launches(folder)
  told = (f"commit {row['commit']}, {row['device']}" for row in launches)
  return list(dict.fromkeys(told))


def note(run: Run | Sweep, bench: Bench) -> str:
  """What was cut short at this scale, in words: epochs, images, batch."""
  all_configs = configs(run, bench)
  dataset = conductor.load_dataset(all_configs[0].data)
  epochs = _epochs(run, bench)
  many = "s" if epochs != "1" else ""
  batch = all_configs[0].train.batch_size
  text = f"{epochs} epoch{many} on {len(dataset.train):,} images, batch {batch}"
  return text if isinstance(run, Run) else f"{text}, {len(all_configs)} schedules"


def _epochs(run: Run | Sweep, bench: Bench) -> str:
  if isinstance(run, Run):
    return str(model.load(bench.folder(run)).about["epoch"])
  return work(run, bench).epochs


def use_cores() -> None:
  """Lets sweeps use every core of a machine without an accelerator.

  To be called before anything is computed.
  """
  vmapped.use_cores()
