"""The conductor of a sweep: plans groups, hands them out, keeps the table."""

import contextlib
import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from infusion_jax import datasets
from infusion_jax.config import AUTO, DTYPES, Config, DataConfig
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.networks import user_code
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import FOLDER
from infusion_jax.sweep import (
  cost,
  group_measuring,
  group_training,
  ledger,
  overrides,
  ray_jobs,
  result_files,
  tables,
)
from infusion_jax.sweep.ledger import Folder, Group, Job, Plan, SweepProtocol
from infusion_jax.sweep.ray_jobs import Done, Ray
from infusion_jax.training import signals
from infusion_jax.training.labels import check_fits
from infusion_jax.training.state import make_rates, make_recipe


class Conducted(NamedTuple):
  """What a launch of a sweep has come to.

  Attributes:
    rows: of the table.
    files: names of what was written beside it.
    failed: groups that could not be trained or measured.
  """

  rows: list[tables.Row]
  files: list[str]
  failed: list[Done]


def conduct(
  folder: Folder,
  plan: Plan,
  protocol: SweepProtocol,
  *,
  ray: Ray | None = None,
  together: int | None = None,
  progress: bool = True,
  say: Callable[[str], None] = print,
) -> Conducted:
  """Trains and measures what is not finished, and writes the table after each group.

  Args:
    folder: of the sweep.
    plan: from `planned`.
    protocol: how to measure.
    ray: machines to work on; None: one group after another, here.
    together: see `Job`.
    progress: show progress bars on stderr, where the work is here.
    say: told of attempts on Ray that failed.

  Returns:
    The table and the groups that failed.

  Raises:
    UserError: another process trains the sweep; or, here, a group failed.
    signals.Stopped: a signal came; all groups have saved their state.
  """
  with folder.locked():
    folder.claim(plan.new)
    todo = _jobs(folder, plan, protocol, together, progress and ray is None)
    connected = ray_jobs.connected(ray) if ray else contextlib.nullcontext()
    done: list[Done] = []
    with connected, signals.asking() as asked:
      for job in _work(todo, ray, asked, say):
        done.append(job)
        result_files.write(
          folder, tables.collect(folder, plan.groups, protocol), protocol
        )
      finished = [job for job in done if job.error is None]
      if asked() and len(finished) < len(todo):
        raise signals.Stopped("stopped; the groups in work have saved their state")
    rows = tables.collect(folder, plan.groups, protocol)
    written = result_files.write(folder, rows, protocol)
  return Conducted(rows, written, [job for job in done if job.error])


def _jobs(
  folder: Folder,
  plan: Plan,
  protocol: SweepProtocol,
  together: int | None,
  progress: bool,
) -> list[Job]:
  """The groups that are not yet trained and measured."""
  count = len(plan.groups)
  return [
    Job(
      workdir=str(folder.path.resolve()),
      group=group,
      protocol=protocol,
      progress=progress,
      title=f"group {number}/{count} ({group.title})",
      together=together,
      code=user_code.files(),
    )
    for number, group in enumerate(plan.groups, 1)
    if folder.evaluation(group, protocol) is None
  ]


def _work(
  todo: Sequence[Job],
  ray: Ray | None,
  asked: Callable[[], bool],
  say: Callable[[str], None],
) -> Iterator[Done]:
  """Trains and measures; yields jobs as they end."""
  if ray:
    return ray_jobs.on_ray(run, todo, ray, asked=asked, say=say)
  return ray_jobs.here(run, todo, asked=asked)


def planned(folder: Folder, wanted: Sequence[Config], memory: int) -> Plan:
  """What there is to do, in groups that fit the memory; nothing is written.

  Args:
    folder: of the sweep.
    wanted: the runs.
    memory: bytes of a device.

  Raises:
    UserError: a run does not fit its data or the memory, or the folder holds
      something else.
  """
  check(wanted)
  return split(ledger.plan(folder, wanted), memory)


def run(job: Job) -> str:
  """Trains and measures a group, from where it was left; what is done is skipped.

  Returns:
    The group's name.

  Raises:
    UserError: a run does not fit its data, or the device's memory is too small.
    signals.Stopped: SIGTERM or SIGINT came; the state is saved.
  """
  for file in job.code:
    user_code.run(file)
  folder = Folder(pathlib.Path(job.workdir))
  dataset = dataset_of(job.group.configs[0])
  try:
    with signals.asking() as asked:
      if folder.results(job.group) is None:
        group_training.train(folder, job, dataset, asked)
      # Each finished run has its own folder now, so the group's folder can go.
      shutil.rmtree(folder.group(job.group) / FOLDER, ignore_errors=True)
      if folder.evaluation(job.group, job.protocol) is None:
        group_measuring.measure(folder, job, dataset, asked)
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
  """The images of a run; the last two data sets are kept."""
  return datasets.from_config(data)


def dataset_of(config: Config) -> Dataset:
  """The data set of a run, with labels where the model has classes."""
  return _labelled(load_dataset(config.data), config.data, config.model.num_classes)


@functools.lru_cache(maxsize=2)
def _labelled(dataset: Dataset, data: DataConfig, num_classes: int) -> Dataset:
  return datasets.labelled(dataset, data, num_classes)


def check(configs: Sequence[Config]) -> None:
  """Raises UserError where a run does not fit its data; nothing is computed."""
  for config in configs:
    if config.model.dtype == AUTO:
      raise UserError(
        f"model.dtype is {AUTO!r}, which a single run chooses by a measurement; a sweep"
        f" needs one of {', '.join(DTYPES)}, so that its runs compare"
      )
    make_rates(config.chain)
    dataset = dataset_of(config)
    check_fits(config, dataset)
    recipe = make_recipe(config, dataset)
    if config.train.init_from:
      stored.of_run(config.train.init_from, recipe.network)


def group_cost(group: Group) -> cost.Cost:
  """The cost of one run of a group."""
  config = group.configs[0]
  dataset = dataset_of(config)
  return cost.estimate(make_recipe(config, dataset), dataset)


def split(plan: Plan, limit: int) -> Plan:
  """Cuts new groups into parts that fit in `limit` bytes a device.

  Raises:
    UserError: a single run does not fit.
  """
  devices = jax.local_device_count()
  if jax.default_backend() == "cpu":
    # All jobs on a machine's cores share its memory.
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
