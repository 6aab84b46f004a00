"""How the cost of a training step grows: python -m benchmarks.growth --out=FOLDER.

Measured are the time of a step against T, batch size, pixels and width of the MLP,
each relative to the smallest of its row, beside the growth of the step's matrix
products; and the memory that the compiled step needs for intermediate results,
against T. A cost that is linear in the products lies on the diagonal of the figure.

  python -m benchmarks.growth --json=results/growth/growth.json --out=results/growth
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags

from benchmarks import timing
from benchmarks.workloads import Ours, Size
from infusion_jax.drawing import line_plots, markdown, plots
from infusion_jax.storage import files, provenance
from infusion_jax.training import programs

Numbers = dict[str, Any]

#: Each row grows one number; the others keep these values.
BASE = Size(side=20, hidden=(600, 600), num_steps=10, batch_size=64)
GROWTH = {
  "T": [dataclasses.replace(BASE, num_steps=t) for t in (5, 10, 15, 30)],
  "batch size": [dataclasses.replace(BASE, batch_size=b) for b in (32, 64, 128, 256)],
  "pixels": [dataclasses.replace(BASE, side=s) for s in (14, 20, 28)],
  "width": [dataclasses.replace(BASE, hidden=(h, h)) for h in (300, 600, 900, 1200)],
}
MEMORY = [dataclasses.replace(BASE, num_steps=t) for t in (5, 15, 30, 60)]
#: Optimizer steps of one timed call.
_STEPS = 2


def measure(
  rounds: int,
  growth: dict[str, Sequence[Size]] | None = None,
  memory: Sequence[Size] | None = None,
) -> Numbers:
  """Times and memory of training steps of growing size.

  Args:
    rounds: how often each is timed.
    growth: name of what grows -> sizes, the smallest first; by default `GROWTH`.
    memory: sizes that differ in T; by default `MEMORY`.

  Returns:
    For each row its values, seconds a step, times and products relative to the
    smallest; under "memory" the bytes of intermediate results and, of those, what a
    step of the chain reports.
  """
  growth = GROWTH if growth is None else growth
  found: Numbers = {
    name: _growth(name, sizes, rounds) for name, sizes in growth.items()
  }
  return {**found, "memory": _memory(MEMORY if memory is None else memory)}


def figure(found: Numbers) -> np.ndarray:
  """Time against work, both relative to the smallest; see `line_plots.curves`."""
  lines = {
    name: (row["work_ratio"], row["time_ratio"])
    for name, row in found.items()
    if name != "memory"
  }
  most = max(max(x) for x, _ in lines.values())
  memory = found["memory"]
  title = (
    f"Intermediate results: {memory['temporary_bytes'][0] / 2**20:.1f} MiB at"
    f" T = {memory['T'][0]}, {memory['temporary_bytes'][-1] / 2**20:.1f} MiB at"
    f" T = {memory['T'][-1]}"
  )
  return line_plots.curves(
    {"in proportion": ([1, most], [1, most]), **lines},
    "matrix products of a training step, relative to the smallest",
    "time of a step, likewise",
    title=title,
  )


def _growth(name: str, sizes: Sequence[Size], rounds: int) -> Numbers:
  runs = {str(_value(name, size)): Ours(size) for size in sizes}
  work = {label: (lambda run=run: run.train(_STEPS)) for label, run in runs.items()}
  times = timing.take_turns(work, rounds, what=f"growth with {name}")
  first = next(iter(runs))
  return {
    "values": [_value(name, size) for size in sizes],
    "step_seconds": [times.median(label) / _STEPS for label in runs],
    "time_ratio": [times.ratio(label, first) for label in runs],
    "work_ratio": [size.useful_flops / sizes[0].useful_flops for size in sizes],
  }


def _value(name: str, size: Size) -> int:
  return {
    "T": size.num_steps,
    "batch size": size.batch_size,
    "pixels": size.pixels,
    "width": size.hidden[0],
  }[name]


def _memory(sizes: Sequence[Size]) -> Numbers:
  """Bytes that compiled training steps need beside state and images."""
  needed = [_temporary_bytes(size) for size in sizes]
  reports = [_report_bytes(size) for size in sizes]
  return {
    "T": [size.num_steps for size in sizes],
    "temporary_bytes": needed,
    "report_bytes": reports,
    "one_state_bytes": 4 * sizes[0].batch_size * sizes[0].pixels,
  }


def _temporary_bytes(size: Size) -> int:
  ours = Ours(size)
  arguments = ours.state, ours.run, ours.images, np.int32(1)
  lowered = programs.compiled(ours.recipe).train_steps.lower(*arguments)
  return lowered.compile().memory_analysis().temp_size_in_bytes


def _report_bytes(size: Size) -> int:
  """Gradients of each step's own parameters, and its batch statistics."""
  ours = Ours(size, count=size.batch_size)
  kept = ours.state.parameters.per_step, ours.state.statistics
  return sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))


def _rows(found: Numbers) -> list[list[Any]]:
  return [
    [name, value, f"{1000 * seconds:.1f}", f"{time:.2f}", f"{work:.2f}"]
    for name, row in found.items()
    if name != "memory"
    for value, seconds, time, work in zip(
      row["values"],
      row["step_seconds"],
      row["time_ratio"],
      row["work_ratio"],
      strict=True,
    )
  ]


def _memory_rows(memory: Numbers) -> list[list[Any]]:
  return [
    [t, f"{needed / 2**20:.2f}", f"{report / 2**20:.2f}"]
    for t, needed, report in zip(
      memory["T"], memory["temporary_bytes"], memory["report_bytes"], strict=True
    )
  ]


def main(argv: list[str]) -> None:
  """Measures, prints two tables, writes numbers and figure."""
  del argv
  values = flags.FLAGS
  found = measure(values.rounds)
  headers = ["growing", "value", "ms a step", "time ratio", "products ratio"]
  print(markdown.table(headers, _rows(found)))
  headers = ["T", "temporary MiB", "of it reports"]
  print("\n" + markdown.table(headers, _memory_rows(found["memory"])))
  if values.json:
    about = {**provenance.describe(), "rounds": values.rounds}
    pathlib.Path(values.json).parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(values.json) as stream:
      about["base"] = dataclasses.asdict(BASE)
      stream.write(json.dumps({**found, "about": about}, indent=2).encode() + b"\n")
  if values.out:
    folder = pathlib.Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    plots.save(folder / "growth.png", figure(found))


if __name__ == "__main__":
  # Not at the top: a module that is imported must not define flags for others.
  flags.DEFINE_string("json", None, "File to write the numbers to.")
  flags.DEFINE_string("out", None, "Folder for the figure growth.png.")
  flags.DEFINE_integer("rounds", 9, "Rounds of turns.", lower_bound=1)
  app.run(main)
