"""Metrics as they come: one JSON object a line, and what else watches the run."""

import logging
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from infusion_jax.storage import files
from infusion_jax.training import trackers

FILE = "metrics.jsonl"

_LOGGER = logging.getLogger(__name__)


class Silent:
  """A writer for processes that do not write."""

  def write(
    self, step: int, epoch: int, split: str, values: Mapping[str, float]
  ) -> None:
    """Leaves the row to the first process."""

  def close(self) -> None:
    """Has nothing to close."""


class MetricsWriter:
  """Appends to `metrics.jsonl`; a run resumed at a step continues from there."""

  def __init__(
    self, workdir: pathlib.Path, step: int, *, watched_by: Sequence[str] = ()
  ) -> None:
    """Opens the file and drops what was written after the checkpoint resumed from.

    Args:
      workdir: the run's folder.
      step: of the checkpoint; rows of later steps will be written again.
      watched_by: names in `trackers.TRACKERS`.

    Raises:
      UserError: see `trackers.opened`.
    """
    self._path = workdir / FILE
    files.clear_temporary(self._path)
    self._drop_after(step)
    self._stream = self._path.open("ab")
    self._trackers = trackers.opened(watched_by, workdir, step)

  def write(
    self, step: int, epoch: int, split: str, values: Mapping[str, float]
  ) -> None:
    """Writes one row: its step, epoch, split and named values."""
    row = {"step": step, "epoch": epoch, "split": split, **values}
    self._stream.write(files.json_line(row))
    self._stream.flush()
    for tracker in self._trackers:
      tracker.write(step, epoch, split, values)

  def close(self) -> None:
    """Closes the files."""
    self._stream.close()
    for tracker in self._trackers:
      tracker.close()

  def _drop_after(self, step: int) -> None:
    if not self._path.exists():
      return
    rows, damaged = files.intact_lines(self._path)
    if damaged:
      aside = self._path.with_name(f"{FILE}.damaged")
      _LOGGER.warning(
        "%s: line %s is damaged and is left out; the whole file stays as %s",
        self._path,
        ", ".join(map(str, damaged)),
        aside.name,
      )
      shutil.copyfile(self._path, aside)
    kept = b"".join(files.json_line(row) for row in rows if row.get("step", 0) <= step)
    if kept != self._path.read_bytes():
      with files.replacing(self._path) as stream:
        stream.write(kept)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads the rows of a metrics file; a line torn by a kill is left out."""
  return files.read_json_lines(path)


def series(
  rows: Iterable[Mapping[str, Any]], name: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """One metric by epoch: split -> epochs and values, where it was measured."""
  found: dict[str, list[tuple[float, float]]] = {}
  for row in rows:
    if name in row:
      found.setdefault(row["split"], []).append((row["epoch"], row[name]))
  return {split: tuple(np.array(points).T) for split, points in found.items()}
