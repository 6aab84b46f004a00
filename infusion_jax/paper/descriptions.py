"""What a description of a table or figure is made of."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from infusion_jax.errors import UserError
from infusion_jax.sweep.overrides import Override

#: "full" is the thesis's protocol, "medium" a night on a laptop, "small" minutes a
#: target on two cores, "smoke" seconds: it shows that all works, and its pictures show
#: nothing.
SCALES = ("small", "medium", "full", "smoke")

Options = Mapping[str, Any]


class Source(NamedTuple):
  """One way to get at the data of a run.

  Attributes:
    config: a file of `configs` with its variants, such as "cifar10:files".
    files: what of the data folder the configuration reads.
    needs: what must be there for that; by default `files`.
    changes: of the configuration.
    note: what a reader of the results must know about these data.
  """

  config: str
  files: tuple[str, ...] = ()
  needs: tuple[str, ...] = ()
  changes: Override = {}
  note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """A model that targets share.

  Attributes:
    name: of its folder.
    title: of its data and schedule, for pictures.
    sources: where its data may come from; the first that is there is taken.
    small: changes of the configuration at small scale.
    full: changes at full scale.
    medium: changes of the full scale for the medium scale.
    smoke: changes of the small scale for the smoke scale.
  """

  name: str
  title: str
  sources: tuple[Source, ...]
  small: Override
  full: Override = dataclasses.field(default_factory=dict)
  medium: Override = dataclasses.field(default_factory=dict)
  smoke: Override = dataclasses.field(default_factory=dict)

  def changes(self, scale: str) -> Override:
    """The changes of the configuration at a scale."""
    return _at_scale(self, scale)


class Panel(NamedTuple):
  """A sub-table of table A.1 at some scale.

  Attributes:
    name: a variant of the sweep's file: its letter.
    rates: those that are trained; empty: all.
    changes: of the configuration.
  """

  name: str
  rates: tuple[float, ...] = ()
  changes: Override = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
  """A table of runs that targets share.

  Attributes:
    name: of its folder.
    title: of its data.
    config: a sweep file of `configs`; variants are its panels.
    sources: as those of a run; their configurations are not used.
    panels: by scale.
    changes: of the base configuration, by scale.
    protocol: how its runs are measured (`sweep.ledger.SweepProtocol`), by scale.
  """

  name: str
  title: str
  config: str
  sources: tuple[Source, ...]
  panels: Mapping[str, tuple[Panel, ...]]
  changes: Mapping[str, Override]
  protocol: Mapping[str, Options]


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
  """A table or figure.

  Attributes:
    name: on the command line, and of its folder in the results.
    title: what it is called in the thesis.
    about: what it shows.
    layout: how it is measured and drawn: a name of `layouts.LAYOUTS`.
    runs: the models and sweeps it is made from, by name.
    published: what it reproduces, as paths in `published.json`.
    small: options of the layout at small scale.
    full: options at full scale.
    medium: changes of the full ones for the medium scale.
    smoke: changes of the small ones for the smoke scale.
    needs: "inception" where a file of weights must be given.
  """

  name: str
  title: str
  about: str
  layout: str
  runs: tuple[str, ...]
  published: tuple[tuple[str, ...], ...]
  small: Options = dataclasses.field(default_factory=dict)
  full: Options = dataclasses.field(default_factory=dict)
  medium: Options = dataclasses.field(default_factory=dict)
  smoke: Options = dataclasses.field(default_factory=dict)
  needs: str = ""

  def options(self, scale: str) -> Options:
    """The options of the layout at a scale."""
    return _at_scale(self, scale)


class Book(NamedTuple):
  """All that can be reproduced.

  Attributes:
    runs: models and sweeps by name.
    targets: tables and figures by name, in the order they are made.
  """

  runs: Mapping[str, Run | Sweep]
  targets: Mapping[str, Target]

  def chosen(self, names: str) -> list[Target]:
    """The targets that "figure_3_1,table_a1" or "all" names, in the book's order.

    Raises:
      UserError: one of them is none, or there are none.
    """
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
      if name not in (*self.targets, "all"):
        raise UserError(
          f"target is {name!r}; allowed are all, {', '.join(self.targets)}"
        )
    if not asked:
      raise UserError(f"target is empty; allowed are all, {', '.join(self.targets)}")
    return [t for t in self.targets.values() if t.name in asked or "all" in asked]


def fingerprint(content: Any) -> str:
  """Twelve hexadecimal digits of a description, ready for JSON."""
  text = json.dumps(content, sort_keys=True, default=list)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_scale(scale: str) -> None:
  """Raises UserError for a scale that is none."""
  if scale not in SCALES:
    raise UserError(f"scale is {scale!r}; allowed are {', '.join(SCALES)}")


def _at_scale(described: Run | Target, scale: str) -> Mapping[str, Any]:
  check_scale(scale)
  if scale == "smoke":
    return {**described.small, **described.smoke}
  if scale == "medium":
    return {**described.full, **described.medium}
  return described.small if scale == "small" else described.full
