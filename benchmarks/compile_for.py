"""Compiles for chips that are not here, and estimates what they would take.

  pip install '.[tpu]'
  python -m benchmarks.compile_for --topology=v5e:2x4 --config=mnist
  pip install '.[cuda]'
  python -m benchmarks.compile_for --topology=h100:8 --config=mnist

Training is compiled for one chip and for all chips of each topology; sampling,
bound and annealing, which run on a single chip, for one. The compiler needs no chip.
Printed are memory, arithmetic, traffic and collectives of the compiled programs, and a
roofline estimate from published numbers (`chips`). Nothing of it is measured.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterable
from typing import Any

import jax
from absl import app, flags
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from benchmarks import abstract_runs, hlo
from benchmarks.chips import CHIPS, GPU_TARGETS, roofline
from infusion_jax.config import Config
from infusion_jax.drawing import markdown
from infusion_jax.errors import UserError
from infusion_jax.storage import files, provenance

Numbers = dict[str, Any]

#: Without these variables libtpu asks the network for them.
_ENVIRONMENT = {
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  # Compiling takes no chip, so several processes may do it at once.
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def describe_chips(topology: str) -> list[Any]:
  """The chips of a topology such as "v5e:2x4", none of which need be here.

  Raises:
    UserError: their compiler is not installed, or knows no such topology.
  """
  kind, sides = parse_topology(topology)
  try:
    chips = list(_description(topology).devices)
  except (RuntimeError, NotImplementedError, ImportError) as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f"--topology is {topology!r}, which cannot be compiled for ({reason}); it needs"
      f" pip install '.[{'cuda' if kind in GPU_TARGETS else 'tpu'}]'"
    ) from error
  if len(chips) != math.prod(sides):
    raise UserError(f"--topology is {topology!r}; it has {len(chips)} {kind} devices")
  return chips


def _description(topology: str) -> topologies.TopologyDescription:
  kind, sides = parse_topology(topology)
  if kind in GPU_TARGETS:
    shape = {"topology": f"1x1x{math.prod(sides)}"}
    return topologies.get_topology_desc(
      platform="cuda", target_config=GPU_TARGETS[kind], **shape
    )
  os.environ.update(_ENVIRONMENT)
  return topologies.get_topology_desc(topology, "tpu")


def parse_topology(text: str) -> tuple[str, tuple[int, ...]]:
  """Kind and sides of "v5e:2x4" or "h100:8".

  Raises:
    UserError: it is written otherwise, or nothing is published of that kind.
  """
  kind, _, grid = text.partition(":")
  sides = grid.split("x")
  if kind not in CHIPS or not all(side.isdecimal() and int(side) for side in sides):
    raise UserError(
      f"--topology is {text!r}; allowed is KIND:AxB or KIND:N, chips of one of the"
      f" kinds {', '.join(CHIPS)}"
    )
  return kind, tuple(map(int, sides))


def measure(config: Config, topology: str, *, single: bool) -> list[Numbers]:
  """Compiles the programs of a configuration for a topology.

  Args:
    config: the run; every chip gets a batch of its size.
    topology: such as "v5e:2x4".
    single: for one of its chips only, with the programs that need no more.

  Returns:
    A row of numbers for each program.
  """
  kind, sides = parse_topology(topology)
  chips = describe_chips(topology)
  if not single:
    shared = _with_batch(config, config.train.batch_size * len(chips))
    return [_row(kind, sides, shared, abstract_runs.training, chips)]
  makers = abstract_runs.training, *abstract_runs.SINGLE
  return [_row(kind, (1,), config, make, chips[:1]) for make in makers]


def _row(
  kind: str, sides: tuple[int, ...], config: Config, make: Any, chips: list[Any]
) -> Numbers:
  if make is abstract_runs.training:
    place = abstract_runs.make_mesh(chips)
  else:
    place = SingleDeviceSharding(chips[0])
  work = make(config, place)
  about = {"program": work.name, "unit": work.unit, "chips": len(chips)}
  began = time.perf_counter()
  try:
    compiled = work.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return {**about, "does_not_fit": str(error).splitlines()[0]}
  seconds = time.perf_counter() - began
  plain = functools.partial(make, config, None)
  total = abstract_runs.flops(plain, config.chain.num_steps)
  done = hlo.work(compiled.as_text(), per_step=work.per_step)
  done = done._replace(bytes=done.bytes // work.units)
  flops = total / len(chips)
  estimate = roofline(CHIPS[kind], flops, done, sides)
  needed = compiled.memory_analysis()
  return {
    **about,
    "compile_seconds": round(seconds, 1),
    "argument_bytes": needed.argument_size_in_bytes,
    "temporary_bytes": needed.temp_size_in_bytes,
    "share_of_memory": (needed.argument_size_in_bytes + needed.temp_size_in_bytes)
    / CHIPS[kind].memory_bytes,
    "flops_per_chip": flops,
    "main_memory_bytes_per_chip": done.bytes,
    "collectives": [c._asdict() for c in done.collectives],
    "estimated_seconds": {**estimate._asdict(), "all": estimate.step},
  }


def _with_batch(config: Config, size: int) -> Config:
  train = dataclasses.replace(config.train, batch_size=size)
  return dataclasses.replace(config, train=train)


def enough_images(row: Numbers, batch_size: int, share: float = 0.2) -> int:
  """Images a chip and step at which collectives take at most a share of a step.

  The work of a chip is in proportion to its images, what chips tell each other is not.

  Args:
    row: of training on several chips.
    batch_size: images a chip it was compiled for.
    share: of the step, at most.
  """
  seconds = row["estimated_seconds"]
  waiting = seconds["links"] + seconds["latency"]
  working = max(seconds["compute"], seconds["memory"])
  return math.ceil(batch_size * waiting * (1 - share) / share / working)


def _cells(name: str, row: Numbers) -> list[str]:
  about = [name, row["program"], row["unit"], row["chips"]]
  if "does_not_fit" in row:
    return [*about, "does not fit", *[""] * (len(_HEADERS) - len(about) - 1)]
  collectives = row["collectives"]
  seconds = row["estimated_seconds"]
  return [
    *about,
    f"{(row['argument_bytes'] + row['temporary_bytes']) / 2**20:.0f}",
    f"{100 * row['share_of_memory']:.1f}%",
    f"{row['flops_per_chip'] / 1e9:.1f}",
    f"{row['main_memory_bytes_per_chip'] / 1e6:.0f}",
    sum(c["times"] for c in collectives),
    f"{sum(c['bytes'] * c['times'] for c in collectives) / 1e6:.1f}",
    *(f"{1e6 * seconds[key]:.0f}" for key in _ESTIMATES),
  ]


_ESTIMATES = ("compute", "memory", "links", "latency", "all")
_HEADERS = [
  "configuration",
  "program",
  "unit",
  "chips",
  "MiB a chip",
  "of its memory",
  "GFLOP a chip",
  "MB of traffic",
  "collectives",
  "their MB",
  *(f"estimate: {name}, us" for name in _ESTIMATES),
]


def _kept(path: str | None, names: Iterable[str]) -> dict[str, list[Numbers]]:
  """The rows that an earlier command left in the file, by configuration."""
  file = pathlib.Path(path or "")
  there = json.loads(file.read_text()) if file.is_file() else {}
  return {name: there.get(name, []) for name in names}


def _is_of(row: Numbers, topology: str, *, single: bool) -> bool:
  """Whether a row is of that topology; of one chip, whether it is of such a chip."""
  if not single:
    return row["chips"] > 1 and row["topology"] == topology
  kind, _ = parse_topology(topology)
  return row["chips"] == 1 and parse_topology(row["topology"])[0] == kind


def _write(path: str, found: dict[str, list[Numbers]]) -> None:
  content = {**found, "about": provenance.describe()}
  with files.replacing(path) as stream:
    stream.write(json.dumps(content, indent=2).encode() + b"\n")


def main(argv: list[str]) -> None:
  """Compiles, prints the table, writes the numbers."""
  del argv
  try:
    _compile_all(flags.FLAGS)
  except UserError as error:
    sys.exit(f"error: {error}")


def _compile_all(values: flags.FlagValues) -> None:
  # The processor makes the arguments, even where a chip is present.
  jax.config.update("jax_platforms", "cpu")
  configs = {name: abstract_runs.read_config(name) for name in values.config}
  found = _kept(values.json, configs)
  for name, config in configs.items():
    places = [(values.topology[0], True), *((each, False) for each in values.topology)]
    for topology, single in places:
      if any(_is_of(row, topology, single=single) for row in found[name]):
        continue
      rows = measure(config, topology, single=single)
      found[name] += [{"topology": topology, **row} for row in rows]
      if values.json:
        _write(values.json, found)
  cells = [_cells(name, row) for name, rows in found.items() for row in rows]
  print(markdown.table(_HEADERS, cells))
  for name, rows in found.items():
    for row in rows:
      if row.get("collectives"):
        enough = enough_images(row, configs[name].train.batch_size)
        print(
          f"{name}, {row['chips']} chips: collectives take at most a fifth of a step"
          f" from {enough} images a chip on (estimate)"
        )


if __name__ == "__main__":
  flags.DEFINE_list("topology", ["v5e:2x4"], "Chips to compile for: v5e:2x4,v5e:8x8.")
  flags.DEFINE_list("config", ["mnist"], "Configurations: mnist,celeba,celeba:unet.")
  flags.DEFINE_string(
    "json", None, "File for the numbers; those in it are not made again."
  )
  app.run(main)
