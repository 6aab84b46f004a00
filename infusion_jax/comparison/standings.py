"""What came of a comparison: a table, a plot over network calls, a grid a method."""

import collections
import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from infusion_jax import random
from infusion_jax.comparison.contest import Contest
from infusion_jax.comparison.contestants import Ours
from infusion_jax.comparison.judge import REAL, Row
from infusion_jax.comparison.rules import Rules
from infusion_jax.drawing import markdown, outputs, plots, rankings
from infusion_jax.drawing.rankings import Band
from infusion_jax.drawing.tiles import Picture
from infusion_jax.storage import files, provenance

TABLE_FILE = "table.md"
RESULT_FILE = "comparison.json"
PLOT_FILE = "quality.png"
_GRID = 10

_PICTURES = (
  "method",
  "sampler",
  "calls",
  "Parzen",
  "sigma",
  "classifier score",
  "FID",
  "KID x 1000",
  "nearest",
  "s / 1000 pictures",
)
_LIKELIHOODS = (
  "method",
  "log p",
  "nats",
  "std. error",
  "bits/dim",
  "images",
  "sandwich gap",
  "output variance",
)
_COSTS = ("method", "epochs", "gradient passes", "training (s)")


def write(contest: Contest, rows: Sequence[Row]) -> dict[str, pathlib.Path]:
  """Writes table, plot and grids into the contest's folder.

  Returns:
    The files by name.
  """
  folder = contest.folder
  named = {name: folder / name for name in (TABLE_FILE, RESULT_FILE, PLOT_FILE)}
  files.save_bytes(named[TABLE_FILE], f"{tables(contest, rows)}\n".encode())
  plots.save(named[PLOT_FILE], plot(rows, contest.rules.main_calls))
  for method in contest.rules.methods:
    for sampler, picture in grids(contest, method).items():
      name = outputs.file_name(f"samples {method} {sampler}") + ".png"
      named[name] = folder / name
      plots.save(named[name], picture)
  facts = {
    **provenance.without_folders(provenance.describe()),
    "config": provenance.without_folders(contest.config.to_dict()),
    "rules": dataclasses.asdict(contest.rules),
    "rows": list(rows),
  }
  files.write_json(named[RESULT_FILE], facts)
  return named


def tables(contest: Contest, rows: Sequence[Row]) -> str:
  """The tables of pictures, likelihoods and costs, as Markdown."""
  rules = contest.rules
  largest = max(rules.num_samples, rules.curve_samples)
  pictures = main_rows(rows, rules)
  likelihoods = [row for row in rows if "likelihood" in row]
  costs = {row["method"]: row for row in rows if "passes" in row}
  parts = [
    f"Pictures, {rules.main_calls} network calls, {largest:,} pictures a row:",
    markdown.table(_PICTURES, [_picture_cells(row) for row in pictures]),
    "Likelihoods of test images:",
    markdown.table(_LIKELIHOODS, [_likelihood_cells(row) for row in likelihoods]),
    "Costs:",
    markdown.table(
      _COSTS,
      [[m, r["epochs"], r["passes"], r["training_seconds"]] for m, r in costs.items()],
    ),
  ]
  return "\n\n".join(parts)


def main_rows(rows: Iterable[Row], rules: Rules) -> list[Row]:
  """Of every sampler the row with most pictures at the main number of calls.

  Methods that make another number, whatever they are allowed, have but one such row.
  """
  largest = max(rules.num_samples, rules.curve_samples)
  groups: dict[tuple[str, str], list[Row]] = {}
  for row in rows:
    if row.get("samples") == largest:
      groups.setdefault((row["method"], row["sampler"]), []).append(row)
  return [
    next((row for row in group if row["calls"] == rules.main_calls), group[0])
    for group in groups.values()
  ]


def _picture_cells(row: Row) -> list[Any]:
  return [
    row["method"],
    row["sampler"] or "-",
    row["calls"] or "-",
    f"{row['parzen']:.1f} ± {row['parzen_error']:.1f}",
    f"{row['sigma']:.3g}",
    f"{row['score']:.3f}",
    f"{row['fid']:.4g}",
    f"{1000 * row['kid']:.4g}",
    f"{row['nearest']:.3f}",
    f"{row['seconds_per_1000']:.3g}" if "seconds_per_1000" in row else "-",
  ]


def _likelihood_cells(row: Row) -> list[Any]:
  return [
    row["method"],
    row["likelihood"],
    f"{row['value']:.1f}",
    f"{row['error']:.1f}",
    f"{row['bits']:.3f}",
    row["images"],
    f"{row['gap']:.2f} ± {row['gap_error']:.2f}" if "gap" in row else "-",
    f"{row['variance']:.4g}" if "variance" in row else "-",
  ]


def plot(rows: Iterable[Row], main_calls: int) -> Picture:
  """FID against network calls, both logarithmic; one line a sampler.

  Infusion stands out most, and after it the best sampler of each method, the lowest FID
  at the main number of calls first; the others are grey.
  """
  rows = [row for row in rows if "fid" in row]
  fewest = min(row["samples"] for row in rows)
  lines: dict[tuple[str, str], dict[int, float]] = {}
  for row in rows:
    if row["samples"] == fewest:
      lines.setdefault((row["method"], row["sampler"]), {})[row["calls"]] = row["fid"]
  real = lines.pop((REAL, ""), None)
  longest = max(max(line) for line in lines.values())
  ranked = sorted(lines, key=lambda name: _rank(name, lines, main_calls))
  samplers = collections.Counter(method for method, _ in lines)
  return rankings.compared_curves(
    {
      method if samplers[method] == 1 else f"{method}, {sampler}": _band(
        lines[method, sampler], longest
      )
      for method, sampler in ranked
    },
    "network calls",
    f"classifier FID of {fewest:,} pictures (lower is better)",
    own=Ours.title,
    reference=real and (REAL, next(iter(real.values()))),
  )


def _rank(
  name: tuple[str, str],
  lines: Mapping[tuple[str, str], Mapping[int, float]],
  main_calls: int,
) -> tuple[bool, bool, float]:
  """Sorts samplers for the plot; a line of one number of calls has that one's FID."""

  def fid(name: tuple[str, str]) -> float:
    return lines[name].get(main_calls, min(lines[name].values()))

  best = min(fid(other) for other in lines if other[0] == name[0])
  return name[0] != Ours.title, fid(name) > best, fid(name)


def _band(line: Mapping[int, float], longest: int) -> Band:
  """A line; one number of calls gives the same pictures where more are allowed."""
  calls = sorted(line) if len(line) > 1 else [*line, longest]
  return Band(calls, [[line.get(n, next(iter(line.values()))) for n in calls]])


def grids(contest: Contest, method: str) -> dict[str, Picture]:
  """Pictures of a trained method at the main number of calls, sampler by sampler."""
  found = contest.contestant(method)
  calls = found.calls(contest.rules.main_calls)
  key = random.named(jax.random.key(contest.rules.seed), "pictures")
  scale = max(1, math.ceil(28 / contest.dataset.image_shape[1]))
  return {
    sampler: plots.grid(
      np.asarray(found.pictures(sampler, calls, key, _GRID**2)),
      scale=scale,
      columns=_GRID,
    )
    for sampler in found.samplers
  }
