"""What a sweep found: table A.1 beside the published one, and figure A.1."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from infusion_jax.config import Config, value_of
from infusion_jax.drawing import markdown
from infusion_jax.storage import provenance
from infusion_jax.sweep import overrides
from infusion_jax.sweep.ledger import SAMPLES_FILE, Folder, Group, Result, SweepProtocol
from infusion_jax.training import metrics_log
from infusion_jax.training.state import make_rates

FORMAT_VERSION = 1

#: The columns of sweep.csv before those of the keys that vary in the table.
_COLUMNS = (
  "run",
  "panel",
  "num_steps",
  "rate",
  "first_rate",
  "last_rate",
  "status",
  "epochs",
  "best_bound",
  "best_epoch",
  "test_bound",
  "standard_error",
  "published",
  "gap",
)


class Row(NamedTuple):
  """A run of the table.

  Attributes:
    config: the run.
    run: its identity.
    place: its panel, rate and label.
    status: as in `Result`, or "not finished".
    epochs: finished ones, or None.
    best_bound: on validation, nats per image, or None.
    best_epoch: it was reached after, or None.
    test_bound: nats per image, or None.
    standard_error: of the test bound over images, or None.
    published: table A.1's test bound, or None.
    curve: epochs and validation bounds, each [E].
    samples: pictures [n, H, W, C], or None.
  """

  config: Config
  run: str
  place: overrides.Place
  status: str
  epochs: int | None
  best_bound: float | None
  best_epoch: int | None
  test_bound: float | None
  standard_error: float | None
  published: float | None
  curve: tuple[list[int], list[float]]
  samples: np.ndarray | None

  @property
  def gap(self) -> float | None:
    """How far the test bound is above the published one."""
    if self.test_bound is None or self.published is None:
      return None
    return self.test_bound - self.published


class Order(NamedTuple):
  """The runs of a panel, best first.

  Attributes:
    panel: its title.
    labels: of the runs with a bound, best first.
    by: "by test bound", or "by validation bound" where not all have been tested.
    published: the best rate of the thesis, or None.
    verdict: how the best rate here compares with it; empty without one.
  """

  panel: str
  labels: list[str]
  by: str
  published: float | None
  verdict: str

  def __str__(self) -> str:
    """One line."""
    line = f"{self.panel}: {' > '.join(self.labels) or 'nothing yet'} ({self.by})"
    return f"{line}; {self.verdict}" if self.verdict else line


def collect(
  folder: Folder, groups: Sequence[Group], protocol: SweepProtocol
) -> list[Row]:
  """The rows of the table, sorted by T, panel and rate; runs in work included."""
  arranged = overrides.arrangement(
    [config for group in groups for config in group.configs]
  )
  rows = [
    row for group in groups for row in _rows_of(folder, group, protocol, arranged)
  ]
  return sorted(rows, key=_sort_key)


def _sort_key(row: Row) -> tuple:
  # As in the thesis: increasing rates before constant ones.
  chain = row.config.chain
  rate = math.inf if row.place.rate is None else row.place.rate
  constant = " constant" in row.place.panel
  return constant, chain.num_steps, row.place.panel, rate, row.place.label, row.run


def _rows_of(
  folder: Folder, group: Group, protocol: SweepProtocol, arranged: overrides.Arrangement
) -> list[Row]:
  results = {result.run: result for result in folder.results(group) or []}
  measured = folder.evaluation(group, protocol) or {}
  curves = _curves(folder, group)
  samples = _samples(folder, group) if measured else {}
  return [
    _row(config, run, results.get(run), measured.get(run, {}), arranged)._replace(
      curve=curves.get(run, ([], [])), samples=samples.get(run)
    )
    for run, config in zip(group.runs, group.configs, strict=True)
  ]


def _row(
  config: Config,
  run: str,
  result: Result | None,
  measured: dict[str, float],
  arranged: overrides.Arrangement,
) -> Row:
  return Row(
    config=config,
    run=run,
    place=overrides.place(config, arranged),
    status=result.status if result else "not finished",
    epochs=result.epochs if result else None,
    best_bound=result.best_bound if result else None,
    best_epoch=result.best_epoch if result else None,
    test_bound=measured.get("test_bound"),
    standard_error=measured.get("standard_error"),
    published=overrides.published_bound(config),
    curve=([], []),
    samples=None,
  )


def _curves(folder: Folder, group: Group) -> dict[str, tuple[list[int], list[float]]]:
  """Validation bounds by epoch of every run."""
  path = folder.group(group) / metrics_log.FILE
  found: dict[str, tuple[list[int], list[float]]] = {}
  for row in metrics_log.read(path) if path.exists() else ():
    if row["split"] != "validation":
      continue
    for run in group.runs:
      if run in row:
        epochs, bounds = found.setdefault(run, ([], []))
        epochs.append(row["epoch"])
        bounds.append(row[run])
  return found


def _samples(folder: Folder, group: Group) -> dict[str, np.ndarray]:
  with np.load(folder.group(group) / SAMPLES_FILE) as stored:
    return dict(stored)


def panels(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """Rows by the panel they stand in."""
  found: dict[str, list[Row]] = {}
  for row in rows:
    found.setdefault(row.place.panel, []).append(row)
  return found


def order(panel: str, rows: Sequence[Row]) -> Order:
  """The rates of a panel, best first, and whether the thesis found the same."""
  tested = all(row.test_bound is not None for row in rows if row.best_bound is not None)
  by, told = ("test_bound", "test") if tested else ("best_bound", "validation")
  ranked = sorted(
    (row for row in rows if getattr(row, by) is not None),
    key=lambda row: getattr(row, by),
    reverse=True,
  )
  best = None
  if rows[0].place.by == "rate":
    best = overrides.published_best(rows[0].config)
  verdict = "" if best is None or not ranked else _verdict(ranked, rows, best)
  labels = [row.place.label for row in ranked]
  return Order(panel, labels, f"by {told} bound", best, verdict)


def _verdict(ranked: Sequence[Row], rows: Sequence[Row], published: float) -> str:
  """Whether the best rate is the published one, its neighbour, or neither."""
  best = ranked[0].place.rate
  rates = sorted({row.place.rate for row in rows} | {published})
  distance = abs(rates.index(best) - rates.index(published))
  if not distance:
    return f"best {best:g}, as published"
  beside = "its neighbour" if distance == 1 else f"{distance} rates away"
  return f"best {best:g}, published best {published:g} ({beside})"


def to_json(rows: Sequence[Row], protocol: SweepProtocol) -> dict[str, Any]:
  """The whole table, its curves, and how it came about."""
  orders = [order(panel, members) for panel, members in panels(rows).items()]
  return {
    "format_version": FORMAT_VERSION,
    "protocol": describe(protocol),
    "provenance": provenance.describe(),
    "orders": [item._asdict() for item in orders],
    "runs": [
      {
        **_record(row),
        "weights": f"runs/{row.run}" if row.best_bound is not None else None,
        "curve": {"epoch": row.curve[0], "validation_bound": row.curve[1]},
        "config": row.config.to_dict(),
      }
      for row in rows
    ],
  }


def describe(protocol: SweepProtocol) -> str:
  """The protocol of the numbers in a sentence."""
  images = f"the first {protocol.num_images}" if protocol.num_images else "all"
  return (
    "lower bound in nats per image; parameters with the best validation bound,"
    " batch statistics of the whole training set; test: "
    f"{images} images, {protocol.num_chains} infusion chains each,"
    f" seed {protocol.seed}; standard error over images"
  )


def table_csv(rows: Sequence[Row]) -> str:
  """One line a run, with a column for every key that varies."""
  keys = overrides.varying([row.config for row in rows])
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator="\n")
  writer.writerow([*_COLUMNS, *keys])
  for row in rows:
    record = _record(row)
    values = [record[name] for name in _COLUMNS]
    own = [value_of(row.config, key) for key in keys]
    own = [" ".join(map(str, v)) if isinstance(v, tuple) else v for v in own]
    writer.writerow(["" if v is None else v for v in [*values, *own]])
  return stream.getvalue()


def _record(row: Row) -> dict[str, Any]:
  rates = [float(f"{rate:.6g}") for rate in make_rates(row.config.chain)]
  return {
    "run": row.run,
    "panel": row.place.panel,
    "num_steps": row.config.chain.num_steps,
    "rate": row.place.rate,
    "first_rate": rates[0],
    "last_rate": rates[-1],
    "status": row.status,
    "epochs": row.epochs,
    "best_bound": row.best_bound,
    "best_epoch": row.best_epoch,
    "test_bound": row.test_bound,
    "standard_error": row.standard_error,
    "published": row.published,
    "gap": row.gap,
  }


def page(rows: Sequence[Row], protocol: SweepProtocol) -> str:
  """The table beside the published one, panel by panel."""
  parts = ["# Sweep\n", f"Protocol: {describe(protocol)}.\n"]
  for panel, members in panels(rows).items():
    parts += [f"## {panel}\n", panel_table(members) + "\n"]
    parts += [f"{order(panel, members)}.\n"]
  return "\n".join(parts)


def panel_table(rows: Sequence[Row]) -> str:
  """The runs of one panel as a Markdown table."""
  headers = [
    rows[0].place.by,
    "validation",
    "epoch",
    "test",
    "std. error",
    "published",
    "gap",
    "status",
  ]
  return markdown.table(
    headers,
    [
      [
        row.place.label,
        number(row.best_bound),
        "-" if row.best_epoch is None else str(row.best_epoch),
        number(row.test_bound),
        number(row.standard_error),
        number(row.published),
        number(row.gap, "+"),
        row.status if row.epochs is None else f"{row.status}, {row.epochs} epochs",
      ]
      for row in rows
    ],
  )


def number(value: float | None, sign: str = "") -> str:
  """With two decimals, or a dash where there is none."""
  return "-" if value is None else f"{value:{sign}.2f}"
