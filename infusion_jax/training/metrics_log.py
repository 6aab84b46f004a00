"""Metrics as they come: one JSON object a line, and TensorBoard if asked for."""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from infusion_jax.errors import UserError
from infusion_jax.storage import files

FILE = "metrics.jsonl"


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

  def __init__(self, workdir: pathlib.Path, step: int, *, tensorboard: bool = False):
    """Opens the file and drops what was written after the checkpoint resumed from.

    Args:
      workdir: the run's folder.
      step: of the checkpoint; rows of later steps will be written again.
      tensorboard: also write event files under `tensorboard/`.

    Raises:
      UserError: TensorBoard files are wanted but tensorboardX is not installed.
    """
    self._path = workdir / FILE
    files.clear_temporary(self._path)
    self._drop_after(step)
    self._stream = self._path.open("a")
    self._events = _event_writer(workdir, step) if tensorboard else None

  def write(
    self, step: int, epoch: int, split: str, values: Mapping[str, float]
  ) -> None:
    """Writes one row: its step, epoch, split and named values."""
    row = {"step": step, "epoch": epoch, "split": split, **values}
    self._stream.write(json.dumps(row) + "\n")
    self._stream.flush()
    if self._events:
      for name, value in values.items():
        self._events.add_scalar(f"{split}/{name}", value, step)

  def close(self) -> None:
    """Closes the files."""
    self._stream.close()
    if self._events:
      self._events.close()

  def _drop_after(self, step: int) -> None:
    if not self._path.exists():
      return
    kept = [row for row in read(self._path) if row.get("step", 0) <= step]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    if text.encode() != self._path.read_bytes():
      with files.replacing(self._path) as stream:
        stream.write(text.encode())


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


def _event_writer(workdir: pathlib.Path, step: int) -> Any:
  try:
    import tensorboardX
  except ImportError as error:
    raise UserError(
      "--tensorboard needs the package tensorboardX, which is not installed;"
      " pip install 'infusion_jax[tensorboard]' brings it"
    ) from error
  folder = str(workdir / "tensorboard")
  return tensorboardX.SummaryWriter(folder, purge_step=step + 1)
