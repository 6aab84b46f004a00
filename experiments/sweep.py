"""Trains a table of runs: python -m experiments.sweep --config=FILE --workdir=DIR.

The configuration (configs/sweeps/) has a `base` and a list `runs` of overrides. Runs
that differ in their schedule, seed, learning rate or starting weights alone train as
one program. Any value of the base can be given on the command line, for example
--config.base.train.num_epochs=10. The same command on the same workdir resumes; one
with more runs adds them to the table. --dry_run only prints what there is to do.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from experiments import common
from infusion_jax.config import Config
from infusion_jax.drawing import markdown
from infusion_jax.errors import UserError
from infusion_jax.networks import user_code
from infusion_jax.sweep import conductor, cost, overrides, ray_jobs, tables, vmapped
from infusion_jax.sweep.conductor import Conducted
from infusion_jax.sweep.ledger import Folder, Group, Plan, SweepProtocol
from infusion_jax.training import devices, signals

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Sweep file, e.g. configs/sweeps/digits.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the sweep; resumed or added to if it is one."
)
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Print groups, memory and arithmetic; train and write nothing."
)
_MEMORY_GB = flags.DEFINE_float(
  "memory_gb",
  0.0,
  "Memory of one device that a group may fill, in 10^9 bytes; 0: what is free on the"
  " device where it tells, else half of the machine's.",
)
_ENGINE = flags.DEFINE_enum(
  "engine", "here", ["here", "ray"], "Groups one after another, or as jobs on Ray."
)
_PROGRESS = flags.DEFINE_bool(
  "progress", True, "Bars on stderr, if it is a terminal; else lines."
)
_TOGETHER = flags.DEFINE_integer(
  "together",
  None,
  "Runs that a device computes at once, the others in turn; 0: all. By default all,"
  " and 1 on CPUs, where every core is a device.",
  lower_bound=0,
)
_PROTOCOL = common.dataclass_flags(SweepProtocol)
_RAY = common.dataclass_flags(ray_jobs.Ray)


@common.needs("config", "workdir")
def main(argv: list[str]) -> None:
  """Plans, trains group by group, and keeps the table up to date."""
  del argv
  vmapped.use_cores()
  protocol, ray = _PROTOCOL(), _RAY()
  folder = Folder(pathlib.Path(_WORKDIR.value))
  wanted = _wanted()
  plan = conductor.planned(folder, wanted, _memory())
  print(describe(plan, folder))
  if _DRY_RUN.value:
    return
  try:
    found = conductor.conduct(
      folder,
      plan,
      protocol,
      ray=ray if _ENGINE.value == "ray" else None,
      together=_TOGETHER.value,
      progress=_PROGRESS.value,
      say=lambda text: print(text, file=sys.stderr),
    )
  except signals.Stopped as stopped:
    print(f"{stopped}; the same command resumes", file=sys.stderr)
    sys.exit(signals.EXIT_CODE)
  _conclude(found, plan, folder)


def _wanted() -> list[Config]:
  """The runs of the configuration file.

  Raises:
    UserError: it is no sweep, or one of its runs is wrong.
  """
  values = common.config_values(_CONFIG)
  if set(values) != {"base", "runs"}:
    raise UserError(
      f"config has the keys {', '.join(values)}; a sweep has 'base' and 'runs'"
      " (see configs/sweeps/)"
    )
  wanted = overrides.configs(Config.from_dict(values["base"]), values["runs"])
  for name in {config.model.name for config in wanted}:
    user_code.run_named(name)
  return wanted


def _memory() -> int:
  if not 0 <= _MEMORY_GB.value <= 1e9:
    raise UserError(f"memory_gb is {_MEMORY_GB.value}; it must lie between 0 and 1e9")
  return int(_MEMORY_GB.value * 1e9) or devices.free_memory()


def describe(plan: Plan, folder: Folder) -> str:
  """What there is to do, as a table and a sentence."""
  costs = {group: conductor.group_cost(group) for group in plan.groups}
  epoch = {g: costs[g].flops_per_epoch * len(g.configs) for g in plan.groups}
  pace = folder.seconds_per_flop(epoch)
  rows, left = [], 0.0
  for group in plan.groups:
    whole = epoch[group] * group.configs[0].train.num_epochs
    left += 0.0 if group in plan.finished else whole
    rows.append(
      [
        group.name,
        group.configs[0].chain.num_steps,
        len(group.configs),
        f"{costs[group].parameters:,}",
        f"{_bytes(costs[group], group) / 1e9:.3g}",
        f"{whole / 1e12:.3g}",
        "unknown" if pace is None else f"{pace * whole / 60:.3g}",
        _state(plan, group),
      ]
    )
  headers = [
    "group",
    "T",
    "runs",
    "parameters",
    "memory (GB)",
    "TFLOP",
    "minutes",
    "state",
  ]
  others = f"\ngroups of other runs, left as they are: {len(plan.other)}"
  return (
    f"{markdown.table(headers, rows)}\n"
    f"groups to train: {len(plan.groups) - len(plan.finished)},"
    f" at most {left / 1e12:.3g} TFLOP"
    + (
      ""
      if pace is None
      else f", about {pace * left / 60:.3g} minutes at the pace so far"
    )
    + (others if plan.other else "")
  )


def _bytes(one: cost.Cost, group: Group) -> int:
  return cost.total_bytes(
    one, len(group.configs), vmapped.device_count(len(group.configs))
  )


def _state(plan: Plan, group: Group) -> str:
  if group in plan.finished:
    return "finished"
  return "begun" if group in plan.begun else "new"


def _conclude(found: Conducted, plan: Plan, folder: Folder) -> None:
  """Prints the table, with the order of the rates."""
  for panel, members in tables.panels(found.rows).items():
    print(f"\n{panel}\n{tables.panel_table(members)}")
  print("\nOrder of the rates, best first:")
  for panel, members in tables.panels(found.rows).items():
    print(f"  {tables.order(panel, members)}")
  print(f"\nin {folder.path}: {', '.join(found.files)}; weights under runs/")
  if found.failed:
    raise UserError(
      f"{len(found.failed)} of {len(plan.groups)} groups failed, the last with:"
      f" {type(found.failed[-1].error).__name__}: {found.failed[-1].error}"
    )


if __name__ == "__main__":
  common.run(main)
