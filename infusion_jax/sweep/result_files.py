"""The files of a sweep: its table in three formats, curves, changes, samples."""

from collections.abc import Mapping, Sequence

from infusion_jax.drawing import outputs, plots, rankings, tiles
from infusion_jax.drawing.rankings import Band
from infusion_jax.drawing.tiles import Picture
from infusion_jax.storage import files
from infusion_jax.sweep import tables
from infusion_jax.sweep.ledger import Folder, SweepProtocol
from infusion_jax.sweep.tables import Row

#: Lines of figure A.1 start where most bounds are, not in the first epochs' depths.
_CLIP = 0.1
#: The label of what all changes are compared with (`overrides.place`).
_UNCHANGED = "unchanged"


def write(folder: Folder, rows: Sequence[Row], protocol: SweepProtocol) -> list[str]:
  """Writes sweep.json, sweep.csv, sweep.md and the pictures.

  Args:
    folder: the workdir.
    rows: see `collect`.
    protocol: the test bounds' own.

  Returns:
    The names of the files.

  Raises:
    UserError: a file cannot be written.
  """
  place = folder.path
  by_panel = tables.panels(rows)
  content = {
    "sweep.csv": tables.table_csv(rows).encode(),
    "sweep.md": tables.page(rows, protocol).encode(),
  }
  for name, text in content.items():
    files.save_bytes(place / name, text)
  files.write_json(place / "sweep.json", tables.to_json(rows, protocol))
  pictures = {"figure_a1.png": figure(by_panel), "changes.png": changes(by_panel)}
  for panel, members in by_panel.items():
    pictures[f"samples_{outputs.file_name(panel)}.png"] = sample_rows(members)
  drawn = {name: picture for name, picture in pictures.items() if picture is not None}
  for name, picture in drawn.items():
    plots.save(place / name, picture)
  return ["sweep.json", *content, *drawn]


def figure(by_panel: Mapping[str, Sequence[Row]]) -> Picture | None:
  """Figure A.1: validation curves, one line a rate, panels in two columns."""
  drawn = []
  for panel, rows in by_panel.items():
    bands = {
      label: _band(members)
      for label, members in _by_setting(rows).items()
      if all(row.curve[0] for row in members)
    }
    if bands:
      drawn.append(
        rankings.ranked_curves(
          bands,
          "epoch",
          "validation bound (nats)",
          title=panel,
          clip_low_quantile=_CLIP,
        )
      )
  if not drawn:
    return None
  pairs = [drawn[i : i + 2] for i in range(0, len(drawn), 2)]
  lines = [tiles.join(pair, axis=1, align=0.0) for pair in pairs]
  return tiles.join(lines, axis=0, align=0.0)


def _by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
  """Runs that differ in their seeds alone, by what they have in common; best first."""
  found: dict[str, list[Row]] = {}
  for row in rows:
    seed = f", seed {row.config.train.seed}"
    found.setdefault(row.place.label.removesuffix(seed), []).append(row)

  def mean_bound(label: str) -> float:
    bounds = [row.best_bound for row in found[label] if row.best_bound is not None]
    return sum(bounds) / len(bounds) if bounds else float("-inf")

  return {label: found[label] for label in sorted(found, key=mean_bound, reverse=True)}


def _band(rows: Sequence[Row]) -> Band:
  """The epochs that all of these runs have, and their bounds."""
  length = min(len(row.curve[0]) for row in rows)
  return Band(rows[0].curve[0][:length], [row.curve[1][:length] for row in rows])


def changes(by_panel: Mapping[str, Sequence[Row]]) -> Picture | None:
  """Test bounds of a table of one-at-a-time changes, sorted; None for other tables."""
  rows = [row for members in by_panel.values() for row in members]
  tested = [row for row in rows if row.test_bound is not None]
  if not tested or any(row.place.by != "change" for row in rows):
    return None
  main = max(by_panel, key=lambda panel: len(by_panel[panel]))
  points: dict[str, list[tuple[float, float]]] = {}
  for panel, members in by_panel.items():
    for label, own in _by_setting(members).items():
      own_panel = panel if label == _UNCHANGED else f"{panel}: {label}"
      name = label if panel == main else own_panel
      values = [(row.test_bound, row.standard_error) for row in own if row in tested]
      if values:
        points[name] = values
  return rankings.dots(
    points,
    "test bound, nats per image",
    f"{main}: one change at a time",
    reference=_UNCHANGED,
  )


def sample_rows(rows: Sequence[Row]) -> Picture | None:
  """The rows of table A.1: rate, test bound and means of the last transition."""
  groups = {
    (row.place.label, tables.number(row.test_bound)): row.samples
    for row in rows
    if row.samples is not None
  }
  if not groups:
    return None
  return plots.labelled_rows(
    groups,
    headers=(rows[0].place.by, "test bound", f"{rows[0].place.panel}: sample means"),
  )
