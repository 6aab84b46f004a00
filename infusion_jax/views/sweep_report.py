"""A sweep as one HTML file: pictures, curves and the table of its runs.

Everything is read from what `experiments.sweep` keeps in the folder: `sweep.json`
and the pictures beside it. No model is loaded.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.sweep import overrides
from infusion_jax.sweep.tables import FORMAT_VERSION, Order
from infusion_jax.training import epochs
from infusion_jax.views import documents, html_report
from infusion_jax.views.documents import Section, figure, paragraph, table

FILE = "sweep.json"
_CURVES = "figure_a1.png"
_CHANGES = "changes.png"
_SAMPLES = "samples_*.png"

#: The report's note on what the standard errors of test bounds leave out.
_ONE_SEED = (
  "± is the standard error over test images. Runs of one seed tell schedules apart only"
  " where they differ by more than seeds do."
)


def is_sweep(folder: pathlib.Path) -> bool:
  """Whether a folder is that of a sweep rather than of a run."""
  return (folder / FILE).is_file() or (folder / "groups").is_dir()


def of_sweep(folder: pathlib.Path) -> str:
  """The report of a sweep.

  Args:
    folder: its workdir, or a folder that its table and pictures were copied to.

  Returns:
    The HTML file's content.

  Raises:
    UserError: nothing of it has been trained yet, or its table is damaged.
  """
  found = _read(folder / FILE)
  runs = _labelled(found["runs"])
  orders = [Order(**order) for order in found["orders"]]
  sections = [
    Section("Samples", _samples(folder)),
    Section("Runs", _tables(runs, orders) + paragraph(_ONE_SEED, "caution")),
    Section("Curves", _curves(folder)),
  ]
  parts = [
    documents.facts(_summary(folder, runs)),
    paragraph(f"Protocol: {found['protocol']}."),
    *map(documents.section, sections),
    _configuration(runs),
    documents.folded("Provenance", html_report.provenance_table([found["provenance"]])),
  ]
  return html_report.page("Infusion training: sweep", "\n".join(parts))


def _read(path: pathlib.Path) -> dict[str, Any]:
  if not path.exists():
    raise UserError(
      f"{path} does not exist; experiments.sweep writes it when the first group of runs"
      " has been trained"
    )
  found = files.read_json(path)
  if found.get("format_version") != FORMAT_VERSION:
    raise UserError(
      f"{path} has format version {found.get('format_version')}; this version of"
      f" infusion_jax reads {FORMAT_VERSION}"
    )
  if not found["runs"]:
    raise UserError(f"{path} holds no runs; there is nothing to report")
  return found


def _labelled(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """The rows of the table with their label in it and their configuration read."""
  configs = [Config.from_dict(run["config"]) for run in runs]
  arranged = overrides.arrangement(configs)
  places = [overrides.place(config, arranged) for config in configs]
  return [
    {**run, "config": config, "label": place.label, "by": place.by}
    for run, config, place in zip(runs, configs, places, strict=True)
  ]


def _summary(
  folder: pathlib.Path, runs: Sequence[dict[str, Any]]
) -> list[tuple[str, Any]]:
  tested = [run for run in runs if run["test_bound"] is not None]
  best = max(tested, key=lambda run: run["test_bound"], default=None)
  seconds = sum(epochs.time_spent(group)[1] for group in folder.glob("groups/*"))
  return [
    ("data", ", ".join(sorted({run["config"].data.name for run in runs}))),
    ("runs", len(runs)),
    ("finished", sum(run["status"] == "finished" for run in runs)),
    ("best run", best and f"{best['panel']}: {best['label']}"),
    ("its test bound", best and f"{_bound(best)} nats per image"),
    ("training", html_report.duration(seconds) if seconds else None),
  ]


def _tables(runs: Sequence[dict[str, Any]], orders: Sequence[Order]) -> str:
  """A table for each panel: by rate, or where runs differ in other things, by bound."""
  parts = []
  for order in orders:
    members = [run for run in runs if run["panel"] == order.panel]
    by = members[0]["by"]
    if by != "rate":
      members = sorted(members, key=_worst_first, reverse=True)
    rows = table([by, *_HEADERS], map(_row, members), "compact")
    told = paragraph(f"{order}.") if by == "rate" else ""
    parts.append(f"{documents.subheading(order.panel)}{rows}{told}")
  return "".join(parts)


def _worst_first(run: dict[str, Any]) -> tuple[bool, float]:
  bound = run["test_bound"]
  return bound is not None, bound or 0.0


_HEADERS = (
  "test bound",
  "published",
  "gap",
  "validation bound",
  "best epoch",
  "status",
  "epochs",
  "weights",
)


def _row(run: dict[str, Any]) -> list[Any]:
  return [
    run["label"],
    _bound(run),
    run["published"],
    None if run["gap"] is None else f"{run['gap']:+.2f}",
    None if run["best_bound"] is None else f"{run['best_bound']:.2f}",
    run["best_epoch"],
    run["status"],
    run["epochs"],
    run["weights"],
  ]


def _bound(run: dict[str, Any]) -> str | None:
  if run["test_bound"] is None:
    return None
  return f"{run['test_bound']:.2f} ± {run['standard_error']:.2f}"


def _samples(folder: pathlib.Path) -> str:
  told = "Means of the last transition, one row a run, with its test bound."
  return _pictures(folder, _SAMPLES, told, "strip")


def _curves(folder: pathlib.Path) -> str:
  curves = _pictures(folder, _CURVES, "Validation bound by epoch.", "plot strip")
  if not (folder / _CHANGES).exists():
    return curves
  told = "What each change does to the bound, best first."
  return _pictures(folder, _CHANGES, told, "plot") + curves


def _pictures(folder: pathlib.Path, pattern: str, caption: str, kind: str) -> str:
  pictures = [path.read_bytes() for path in sorted(folder.glob(pattern))]
  drawn = [figure(content, caption, kind) for content in pictures]
  return "".join(drawn) or paragraph(f"There is no {pattern} in this folder.")


def _configuration(runs: Sequence[dict[str, Any]]) -> str:
  """The first run's configuration, and what the others have instead."""
  varying = overrides.varying([run["config"] for run in runs])
  told = paragraph(f"Of the first run; others differ in {', '.join(varying) or '-'}.")
  first = html_report.config_table(runs[0]["config"])
  return documents.folded("Configuration", told + first)
