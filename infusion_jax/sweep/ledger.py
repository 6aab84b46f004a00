"""The folder of a sweep: which runs are in it, in which groups, how far they are.

    DIR/launches.jsonl         what was launched, see `workdir`
    DIR/groups/G/group.json    the runs of a group: once written it never changes
    DIR/groups/G/metrics.jsonl validation bound of every run, epoch by epoch
    DIR/groups/G/checkpoints/  state of a group in training; removed when it ends
    DIR/groups/G/results.json  how each run ended
    DIR/groups/G/evaluation.json, samples.npz: on the test images
    DIR/runs/R/checkpoints/    the weights of one run, for `infusion_jax.load`

G and R are made of the runs' configurations (`sweeps.identity`), so the same
sweep finds its runs again, and a larger one finds those it has in common.
"""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.storage import files, provenance
from infusion_jax.sweep import overrides
from infusion_jax.training.epochs import TIMING_FILE
from infusion_jax.training.workdir import LAUNCHES_FILE, LOCK_FILE, unwritable

FORMAT_VERSION = 1

GROUP_FILE = "group.json"
RESULTS_FILE = "results.json"
EVALUATION_FILE = "evaluation.json"
SAMPLES_FILE = "samples.npz"


@dataclasses.dataclass(frozen=True)
class SweepProtocol:
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
class Group:
  """Runs that train as one program.

  Attributes:
    configs: of the runs; equal in all that `sweeps.program` keeps.
  """

  configs: tuple[Config, ...]

  @property
  def runs(self) -> list[str]:
    """The runs' identities."""
    return [overrides.identity(config) for config in self.configs]

  @property
  def name(self) -> str:
    """The group's identity, twelve hexadecimal digits."""
    return hashlib.sha256(" ".join(self.runs).encode()).hexdigest()[:12]

  @property
  def title(self) -> str:
    """The group in a few words."""
    first = self.configs[0]
    count = len(self.configs)
    return f"T = {first.chain.num_steps}, {count} run{'s' if count > 1 else ''}"


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
    code: files with networks of the user's own, which every worker must reach.
  """

  workdir: str
  group: Group
  protocol: SweepProtocol = SweepProtocol()
  progress: bool = False
  title: str = ""
  together: int | None = None
  code: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Result:
  """How the training of a run ended.

  Attributes:
    run: its identity.
    status: "finished", "stopped early" (patience) or "diverged".
    epochs: finished ones.
    best_bound: best validation bound, nats per image; None: there never was one.
    best_epoch: the epoch it was reached after.
    failed_step: first step with a loss or gradient that is not finite, or None.
  """

  run: str
  status: str
  epochs: int
  best_bound: float | None
  best_epoch: int
  failed_step: int | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a launch finds and has to do.

  Attributes:
    finished: groups whose training has ended.
    begun: groups in training, with at least one run that is wanted.
    new: groups to be made of the runs that are in no other.
    other: groups in training without a wanted run; they are left as they are.
  """

  finished: tuple[Group, ...] = ()
  begun: tuple[Group, ...] = ()
  new: tuple[Group, ...] = ()
  other: tuple[Group, ...] = ()

  @property
  def groups(self) -> tuple[Group, ...]:
    """All that belong in the table, those with results first."""
    return self.finished + self.begun + self.new


class Folder:
  """The workdir of a sweep."""

  def __init__(self, path: pathlib.Path) -> None:
    """Names the folder; nothing is read or written.

    Args:
      path: the workdir.
    """
    self.path = path

  def group(self, group: Group) -> pathlib.Path:
    """A group's folder."""
    return self.path / "groups" / group.name

  def run(self, run: str) -> pathlib.Path:
    """The folder of a run's weights."""
    return self.path / "runs" / run

  def check(self) -> None:
    """Raises UserError where the folder holds something else than a sweep."""
    if self.path.exists() and not self.path.is_dir():
      raise UserError(f"workdir {self.path} is a file; allowed is a folder")
    if (self.path / "groups").is_dir() or not self.path.exists():
      return
    if any(self.path.iterdir()):
      raise UserError(
        f"workdir {self.path} is not empty and holds no sweep;"
        " allowed is a new or empty folder, or that of a sweep"
      )

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """For its time no other process may train this sweep.

    Raises:
      UserError: another process does; or the folder is something else's, or cannot
        be written.
    """
    self.check()
    with contextlib.ExitStack() as stack:
      try:
        (self.path / "groups").mkdir(parents=True, exist_ok=True)
        lock = files.locked(self.path / LOCK_FILE, f"workdir {self.path}")
        stack.enter_context(lock)
      except OSError as error:
        raise unwritable(self.path, error) from error
      yield

  def claim(self, new: Sequence[Group]) -> None:
    """Makes the folder a sweep's and writes down its new groups.

    Raises:
      UserError: it is something else's, or cannot be written.
    """
    self.check()
    try:
      (self.path / "groups").mkdir(parents=True, exist_ok=True)
      files.append_json(self.path / LAUNCHES_FILE, provenance.describe())
      for group in new:
        self.group(group).mkdir(exist_ok=True)
        self._write_group(group)
    except OSError as error:
      raise unwritable(self.path, error) from error

  def _write_group(self, group: Group) -> None:
    runs = [
      {"run": run, "config": config.to_dict()}
      for run, config in zip(group.runs, group.configs, strict=True)
    ]
    content = {"format_version": FORMAT_VERSION, "runs": runs}
    files.write_json(self.group(group) / GROUP_FILE, content)

  def stored(self) -> Iterator[Group]:
    """The groups written down, in the order of their names.

    Raises:
      UserError: one is damaged.
    """
    for path in sorted(self.path.glob(f"groups/*/{GROUP_FILE}")):
      content = files.read_json(path)
      version = content.get("format_version")
      if version != FORMAT_VERSION:
        raise UserError(
          f"{path} has format version {version}; this version of infusion_jax reads"
          f" {FORMAT_VERSION}"
        )
      yield Group(tuple(Config.from_dict(run["config"]) for run in content["runs"]))

  def results(self, group: Group) -> list[Result] | None:
    """How the runs of a group ended; None while they have not."""
    path = self.group(group) / RESULTS_FILE
    if not path.exists():
      return None
    return [Result(**row) for row in files.read_json(path)["runs"]]

  def write_results(self, group: Group, results: Sequence[Result]) -> None:
    """Writes down how the runs of a group ended."""
    rows = [dataclasses.asdict(result) for result in results]
    files.write_json(self.group(group) / RESULTS_FILE, {"runs": rows})

  def evaluation(self, group: Group, protocol: SweepProtocol) -> dict[str, Any] | None:
    """What was measured on test images under a protocol; None if nothing was."""
    path = self.group(group) / EVALUATION_FILE
    if not path.exists():
      return None
    found = files.read_json(path)
    return found["runs"] if found["protocol"] == dataclasses.asdict(protocol) else None

  def write_evaluation(
    self, group: Group, protocol: SweepProtocol, measured: dict[str, Any]
  ) -> None:
    """Writes down what was measured under a protocol, by run."""
    content = {"protocol": dataclasses.asdict(protocol), "runs": measured}
    files.write_json(self.group(group) / EVALUATION_FILE, content)

  def seconds_per_flop(self, costs: dict[Group, float]) -> float | None:
    """Time per operation, from the groups of this folder trained so far.

    Args:
      costs: operations of one epoch of all runs, by group.
    """
    seconds = operations = 0.0
    for group, cost in costs.items():
      path = self.group(group) / TIMING_FILE
      for row in files.read_json_lines(path) if path.exists() else ():
        seconds += row.get("seconds", 0.0)
        operations += cost
    return seconds / operations if operations else None


def plan(folder: Folder, wanted: Sequence[Config]) -> Plan:
  """Compares what is wanted with what is in the folder; nothing is written.

  The new groups are those of `sweeps.grouped`, not yet cut to fit the memory.

  Raises:
    UserError: the folder is something else's, or damaged.
  """
  folder.check()
  known = {overrides.identity(config): config for config in wanted}
  finished, begun, other = [], [], []
  for stored in folder.stored():
    # This launch decides the keys that change no result, such as the data's path.
    runs = zip(stored.runs, stored.configs, strict=True)
    group = Group(tuple(known.get(run, config) for run, config in runs))
    if folder.results(group) is not None:
      finished.append(group)
    elif known.keys() & set(group.runs):
      begun.append(group)
    else:
      other.append(group)
  there = {run for group in (*finished, *begun) for run in group.runs}
  missing = [config for run, config in known.items() if run not in there]
  new = (Group(tuple(configs)) for configs in overrides.grouped(missing))
  return Plan(tuple(finished), tuple(begun), tuple(new), tuple(other))
