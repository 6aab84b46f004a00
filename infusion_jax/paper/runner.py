"""Makes targets one after another: trains what they share, measures, draws, records.

A target that is finished is left alone unless its description has changed. What is
interrupted goes on where it was: training from its checkpoint, a sweep from its
groups, measurements from the pieces that were kept.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from infusion_jax.drawing import markdown
from infusion_jax.errors import UserError
from infusion_jax.evaluation import stop_if
from infusion_jax.paper import records, runs
from infusion_jax.paper.descriptions import Book, Run, Sweep, Target, fingerprint
from infusion_jax.paper.materials import Materials
from infusion_jax.paper.recipes import LAYOUTS
from infusion_jax.paper.runs import Bench, Table, Trained, Work
from infusion_jax.storage import provenance
from infusion_jax.training import signals

Say = Callable[[str], None]

#: Raised when a layout changes what it makes of the same models.
_LAYOUT_VERSION = 1


class Task(NamedTuple):
  """A target as a launch finds it.

  Attributes:
    target: the target.
    state: "finished", "to be made", or "skipped".
    reason: why it is skipped; empty otherwise.
  """

  target: Target
  state: str
  reason: str = ""


@dataclasses.dataclass
class Runner:
  """Makes targets of a book on a bench.

  Attributes:
    book: what there is.
    bench: where it is made.
    out: the folder of the results.
    say: told of every step.
  """

  book: Book
  bench: Bench
  out: pathlib.Path
  say: Say = print

  def __post_init__(self) -> None:
    self._trained: dict[str, Trained | Table] = {}
    self._works: dict[str, Work] = {}

  def runs_of(self, targets: Sequence[Target]) -> list[Run | Sweep]:
    """The models and sweeps that targets need, each once."""
    names = dict.fromkeys(name for target in targets for name in target.runs)
    return [self.book.runs[name] for name in names]

  def plan(self, targets: Sequence[Target]) -> list[Task]:
    """Which targets are finished, which are to be made, and which cannot be."""
    return [self._task(target) for target in targets]

  def _task(self, target: Target) -> Task:
    if target.needs == "inception" and not self.bench.inception:
      return Task(
        target, "skipped", "it needs --inception=FILE, weights of Inception-v3"
      )
    try:
      identity = self.identity(target)
    except UserError as error:
      return Task(target, "skipped", str(error))
    found = records.read(self.out, target.name, self.bench.scale)
    if found and found["identity"] == identity:
      return Task(target, "finished")
    return Task(target, "to be made")

  def identity(self, target: Target) -> str:
    """Tells a description, and those of all its runs, from others.

    Raises:
      UserError: data are not there.
    """
    content = {
      "version": _LAYOUT_VERSION,
      "layout": target.layout,
      "options": dict(target.options(self.bench.scale)),
      "runs": [runs.described(run, self.bench) for run in self.runs_of([target])],
      "sources": [self.bench.source(run).note for run in self.runs_of([target])],
    }
    return fingerprint(content)

  def describe(self, tasks: Sequence[Task]) -> str:
    """What there is to do, as two tables and a sentence; nothing is trained."""
    pending = [task.target for task in tasks if task.state == "to be made"]
    works = {run: self._work(run) for run in self.runs_of(pending)}
    hours = {run.name: self._hours(run, work) for run, work in works.items()}
    targets = [
      [
        task.target.name,
        task.target.title,
        task.state,
        ", ".join(task.target.runs),
        f"{sum(hours.get(name, 0.0) for name in task.target.runs):.3g}",
      ]
      for task in tasks
    ]
    trained = [
      [
        run.name,
        run.title,
        work.state,
        work.epochs,
        f"{work.left / 1e12:.3g}",
        f"{hours[run.name]:.3g}",
      ]
      for run, work in works.items()
    ]
    parts = [
      markdown.table(["target", "thesis", "state", "made from", "hours"], targets)
    ]
    if trained:
      headers = ["model", "what", "state", "epochs", "TFLOP left", "hours left"]
      parts.append(markdown.table(headers, trained))
    left = sum(work.left for work in works.values())
    parts.append(
      f"targets to be made: {len(pending)}; training left: {left / 1e12:.3g} TFLOP"
      f" at most, {sum(hours.values()):.3g} hours on this machine at the pace so far"
      " or, where nothing has begun, of a few steps; targets share models"
    )
    return "\n\n".join(parts)

  def _hours(self, run: Run | Sweep, work: Work) -> float:
    """What is left to train of a model or sweep, in hours of this machine."""
    if not work.left:
      return 0.0
    pace = _pace([work]) or runs.seconds_per_operation(run, self.bench)
    return pace * work.left / 3600

  def make(self, tasks: Sequence[Task], commands: Mapping[str, str]) -> None:
    """Makes what is to be made, in order.

    Args:
      tasks: see `plan`.
      commands: the command that makes a target, by its name; it becomes part of
        the result, so it must name no folder of this machine.

    Raises:
      UserError: data or folders are not as they must be.
      signals.Stopped: a signal came; what is finished is kept.
    """
    pending = [task for task in tasks if task.state == "to be made"]
    with signals.asking() as asked:
      for number, task in enumerate(pending, 1):
        stop_if(asked)
        left = [later.target for later in pending[number - 1 :]]
        title = f"[{number}/{len(pending)}] {task.target.name}"
        self.say(f"{title}: {task.target.about} ({self._eta(left)})")
        result = self._make(task.target, commands[task.target.name], asked)
        self.say(f"{title}: {_told(result)}")

  def _eta(self, targets: Sequence[Target]) -> str:
    works = [self._work(run) for run in self.runs_of(targets)]
    left = sum(work.left for work in works)
    if not left:
      return "nothing left to train"
    # Models of finished targets tell the pace, too.
    pace = _pace([*self._works.values(), *works])
    about = "unknown" if pace is None else f"about {_minutes(left, pace)} minutes"
    return f"training left: {about}"

  def _work(self, run: Run | Sweep) -> Work:
    # A model that this launch trained changes no more, so its entry is kept.
    if run.name not in self._trained or run.name not in self._works:
      self._works[run.name] = runs.work(run, self.bench)
    return self._works[run.name]

  def _make(
    self, target: Target, command: str, asked: Callable[[], bool]
  ) -> dict[str, Any]:
    trained = [self._train(run, asked) for run in self.runs_of([target])]
    began = time.perf_counter()
    notes = [self._note(run) for run in self.runs_of([target])]
    materials = Materials(
      target=target,
      options=target.options(self.bench.scale),
      trained=trained,
      notes=notes,
      inception=self.bench.inception,
      progress=self.bench.progress,
      asked=asked,
    )
    outcome = LAYOUTS[target.layout](materials)
    measuring = time.perf_counter() - began
    head = {
      "target": target.name,
      "title": target.title,
      "about": target.about,
      "scale": self.bench.scale,
      "identity": self.identity(target),
      "notes": notes,
    }
    facts = {run.name: runs.facts(run, self.bench) for run in self.runs_of([target])}
    tail = {
      "options": dict(materials.options),
      "runs": facts,
      "seconds": {
        "training": sum(fact["training_seconds"] for fact in facts.values()),
        "measuring": round(measuring, 1),
      },
      "provenance": {**provenance.describe(), "command": command},
    }
    return records.write(self.out, head, outcome, tail)

  def _train(self, run: Run | Sweep, asked: Callable[[], bool]) -> Trained | Table:
    stop_if(asked)
    if run.name not in self._trained:
      self.say(f"  model {run.name}: {self._work(run).state}")
      train = runs.train if isinstance(run, Run) else runs.train_sweep
      self._trained[run.name] = train(run, self.bench)
      self._works.pop(run.name, None)
    return self._trained[run.name]

  def _note(self, run: Run | Sweep) -> str:
    """What must stand on every picture and over every table."""
    words = [f"{self.bench.scale} scale: {runs.note(run, self.bench)}"]
    source = self.bench.source(run).note
    return "; ".join([*words, *([source] if source else [])])


def _told(result: Mapping[str, Any]) -> str:
  """What became of a target, in a line."""
  lines = [
    f"{number['name']} {number['value']:.2f}"
    f" ({', '.join(filter(None, (number['verdict'], records.told_gap(number))))})"
    for number in result["numbers"]
    if "value" in number
  ]
  rest = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
  took = f"{result['seconds']['measuring']:.0f} s besides training"
  return f"{'; '.join(lines[:3])}{rest}; {took}"


def _pace(works: Any) -> float | None:
  """Seconds an operation, from everything trained so far."""
  works = list(works)
  done = sum(work.done for work in works)
  return sum(work.seconds for work in works) / done if done else None


def _minutes(operations: float, pace: float | None) -> str:
  return "unknown" if pace is None else f"{operations * pace / 60:.3g}"
