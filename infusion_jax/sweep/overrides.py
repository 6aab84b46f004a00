"""Tables of runs: how they are written down, told apart, grouped and titled.

An override is a dictionary of dotted configuration keys and values; a sweep is a
list of them over one base configuration. Lists are made by four combinators:

    chained(
      product(sweep("chain.num_steps", [1]), sweep("chain.alpha0", [0.1, 0.2])),
      zipped(sweep("chain.num_steps", [5, 10]), sweep("chain.omega", [0.1, 0.02])),
    )
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from infusion_jax.config import Config, dotted_keys, later_defaults, value_of
from infusion_jax.errors import UserError
from infusion_jax.storage import published_numbers

Override = dict[str, Any]

#: Keys of these kinds do not change a run's result.
_ASIDE = ("notes", "place")

_SCHEDULE = (
  "chain.num_steps",
  "chain.alpha0",
  "chain.omega",
  "chain.rates",
  "chain.repeat_first_rate",
)


def sweep(key: str, values: Iterable[Any]) -> list[Override]:
  """One override per value of a dotted key."""
  return [{key: value} for value in values]


def product(*lists: Sequence[Override]) -> list[Override]:
  """Every combination of one override of each list; the last varies fastest.

  Where two set the same key, the later list wins.
  """
  return [_merged(parts) for parts in itertools.product(*lists)]


def zipped(*lists: Sequence[Override]) -> list[Override]:
  """The first overrides of all lists together, then the second ones, and so on.

  Raises:
    UserError: the lists differ in length.
  """
  if len({len(overrides) for overrides in lists}) > 1:
    raise UserError(
      f"zipped lists have lengths {[len(overrides) for overrides in lists]};"
      " they must be equal"
    )
  return [_merged(parts) for parts in zip(*lists, strict=True)]


def chained(*lists: Sequence[Override]) -> list[Override]:
  """All overrides of the first list, then all of the second, and so on."""
  return list(itertools.chain.from_iterable(lists))


def _merged(parts: Iterable[Override]) -> Override:
  return {key: value for part in parts for key, value in part.items()}


def apply(base: Config, override: Mapping[str, Any]) -> Config:
  """The configuration with some values replaced.

  Raises:
    UserError: a key that is none, a value of another type or out of range.
  """
  values = base.to_dict()
  for key, value in override.items():
    section, _, name = key.partition(".")
    if section not in values or not name:
      raise UserError(
        f"the sweep sets {key!r}; allowed are keys like"
        f" 'chain.omega' of the sections {', '.join(values)}"
      )
    values[section][name] = value
  return Config.from_dict(values)


def configs(base: Config, overrides: Sequence[Mapping[str, Any]]) -> list[Config]:
  """The runs of a sweep, each once, in order.

  Raises:
    UserError: there is none, or one is wrong (see `apply`).
  """
  if not isinstance(overrides, (list, tuple)):
    raise UserError(f"runs is {overrides!r}; allowed is a list of overrides")
  if not overrides:
    raise UserError("the sweep has no runs; 'runs' needs at least one override")
  for override in overrides:
    if not isinstance(override, Mapping):
      raise UserError(
        f"runs has the entry {override!r}; allowed are overrides like"
        " {'chain.omega': 0.1}"
      )
  runs = [apply(base, override) for override in overrides]
  return list({identity(run): run for run in runs}.values())


def identity(config: Config) -> str:
  """Twelve hexadecimal digits that tell a run by all that decides its result."""
  values = config.to_dict()
  for key in {*dotted_keys(*_ASIDE), *later_defaults(config)}:
    section, _, name = key.partition(".")
    del values[section][name]
  text = json.dumps(values, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def program(config: Config) -> Config:
  """What must be equal for runs to train as one program, as a configuration.

  Numbers of a run and notes beside its result take their defaults.
  """
  default = Config()
  for key in dotted_keys("numbers", "notes"):
    config = replaced(config, key, value_of(default, key))
  return config


def grouped(runs: Iterable[Config]) -> list[list[Config]]:
  """Runs that share a program, in the order of their first ones."""
  groups: dict[Hashable, list[Config]] = {}
  for run in runs:
    groups.setdefault(program(run), []).append(run)
  return list(groups.values())


def evenly(runs: Sequence[Config], most: int) -> list[list[Config]]:
  """Cuts a group into the fewest parts of at most `most` runs, as even as can be."""
  parts = math.ceil(len(runs) / most)
  ends = [round(i * len(runs) / parts) for i in range(parts + 1)]
  return [list(runs[a:b]) for a, b in itertools.pairwise(ends)]


def replaced(config: Config, key: str, new: Any) -> Config:
  """The configuration with one dotted key replaced."""
  section, _, name = key.partition(".")
  part = dataclasses.replace(getattr(config, section), **{name: new})
  return dataclasses.replace(config, **{section: part})


def varying(runs: Sequence[Config]) -> list[str]:
  """The dotted keys in which runs differ, those that change no result left out."""
  deciding = [key for key in dotted_keys() if key not in dotted_keys(*_ASIDE)]
  return [key for key in deciding if len({value_of(run, key) for run in runs}) > 1]


class Place(NamedTuple):
  """Where a run stands among the panels of figure A.1.

  Attributes:
    panel: the panel's title, such as "T = 5, increasing rate".
    rate: of its schedule; None for a schedule of its own.
    label: the line's label.
    by: what the panel's lines differ in, see `Arrangement`.
  """

  panel: str
  rate: float | None
  label: str
  by: str = "rate"


class Arrangement(NamedTuple):
  """How the runs of a table are told apart, besides T and the kind of schedule.

  Attributes:
    others: the dotted keys in which runs of a panel differ.
    usual: of these keys those with a value that most runs have, and that value; it
      goes without saying.
    by: "rate" where a panel's lines are rates, each with the same settings; "change"
      where the schedule stays and the lines are what is changed of the settings.
  """

  others: Sequence[str] = ()
  usual: Mapping[str, Any] = {}
  by: str = "rate"


#: Names runs that differ in their schedules alone.
_PLAIN = Arrangement()


def arrangement(runs: Sequence[Config]) -> Arrangement:
  """The arrangement of a table of runs."""
  others = varying_within_panels(runs)
  usual = {}
  for key in others:
    counts = collections.Counter(value_of(run, key) for run in runs)
    most, count = counts.most_common(1)[0]
    if 2 * count > len(runs):
      usual[key] = most
  schedules = {place(run) for run in runs}
  one_each = len(schedules) == len({schedule.panel for schedule in schedules})
  changing = one_each and _settings(others)
  return Arrangement(others, usual, "change" if changing else "rate")


def place(config: Config, arranged: Arrangement = _PLAIN) -> Place:
  """Panel, rate and label of a run, as figure A.1 and table A.1 arrange them.

  With T = 1 the rate is alpha0; otherwise it is omega where alpha0 = 0 (an
  increasing schedule, rate 0 included) and alpha0 where omega = 0 (a constant one).

  Args:
    config: the run.
    arranged: the table it stands in. Settings that not every run has go into the
      panel's title, or into the label where they are what varies; the seed always
      goes into the label.

  Returns:
    Its place.
  """
  kind, rate = _kind(config)
  own = " ".join(f"{r:g}" for r in config.chain.rates)
  label = own if rate is None else f"{rate:g}"
  title = f"T = {config.chain.num_steps}{kind}"
  changes = _changes(config, arranged)
  if arranged.by == "change":
    title, label = f"{title} ({label})", ", ".join(changes) or "unchanged"
  else:
    title = ", ".join([title, *changes])
  if "train.seed" in arranged.others:
    label += f", seed {config.train.seed}"
  return Place(title, rate, label, arranged.by)


def _changes(config: Config, arranged: Arrangement) -> list[str]:
  """The settings of a run that do not go without saying: "decay = cosine"."""
  return [
    f"{key.partition('.')[2]} = {value_of(config, key)}"
    for key in _settings(arranged.others)
    if key not in arranged.usual or value_of(config, key) != arranged.usual[key]
  ]


def _settings(names: Sequence[str]) -> list[str]:
  """The keys that are neither of the schedule nor the seed."""
  return [key for key in names if key not in (*_SCHEDULE, "train.seed")]


def varying_within_panels(runs: Sequence[Config]) -> list[str]:
  """The keys of `varying` that tell runs of one T and kind of schedule apart."""
  panels: dict[str, list[Config]] = {}
  for run in runs:
    panels.setdefault(place(run).panel, []).append(run)
  found = {key for own in panels.values() for key in varying(own)}
  return [key for key in varying(runs) if key in found]


def _kind(config: Config) -> tuple[str, float | None]:
  chain = config.chain
  twice = ", first rate twice" if chain.repeat_first_rate else ""
  if chain.rates:
    return ", given rates", None
  if chain.num_steps == 1:
    return "", chain.alpha0
  if not chain.alpha0:
    return f", increasing rate{twice}", chain.omega
  if not chain.omega:
    return ", constant rate", chain.alpha0
  return f", rate increasing from {chain.alpha0:g}{twice}", chain.omega


def published_bound(config: Config) -> float | None:
  """Table A.1's lower bound on the test set for a schedule, in nats, if it has one."""
  table = _published_table(config)
  _, rate = _kind(config)
  return next((bound for r, bound in table.items() if r == rate), None)


def published_best(config: Config) -> float | None:
  """The best rate of a run's panel according to table A.1 and figure A.1."""
  table = _published_table(config)
  if table:
    return max(table, key=table.get)
  if config.data.name != "mnist" or _kind(config)[0] != ", constant rate":
    return None
  figure = published_numbers.numbers("figure_a1_constant_rate")
  return figure.get(f"T={config.chain.num_steps}", {}).get("best_alpha")


def _published_table(config: Config) -> dict[float, float]:
  """Rates and bounds of a run's sub-table; empty where the thesis has none.

  The schedules of both readings of the increasing rate count (`repeat_first_rate`).
  """
  kind, rate = _kind(config)
  increasing = not kind or kind.startswith(", increasing rate")
  if config.data.name != "mnist" or rate is None or not increasing:
    return {}
  table = published_numbers.numbers("table_a1_mnist_lower_bound_test")
  rows = table.get(f"T={config.chain.num_steps}", {})
  return {float(r): bound for r, bound in rows.items()}
