"""`evaluation.json`: measurements as they come, beside the published numbers."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

import infusion_jax
from infusion_jax import files, provenance
from infusion_jax.errors import UserError
from infusion_jax.evaluation.session import Measurement, Protocol
from infusion_jax.model import Model

FILE = "evaluation.json"

_NUMBERS = pathlib.Path(infusion_jax.__file__).parent / "published.json"


class Report:
  """`evaluation.json`: what has been measured, kept measurement by measurement."""

  def __init__(self, folder: pathlib.Path, identity: str):
    """Reads the file in `folder`, if there is one.

    Args:
      folder: the workdir.
      identity: of the checkpoint; measurements of another one are not reused.

    Raises:
      UserError: the file is there but is no evaluation.
    """
    self.path, self._identity = folder / FILE, identity
    self.metrics: dict[str, dict[str, Any]] = {}
    if self.path.exists():
      try:
        self.metrics = dict(json.loads(self.path.read_text())["metrics"])
      except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
          f"{self.path} is not an evaluation; move it away to write a new one"
        ) from error

  def finished(self, name: str, protocol: Protocol) -> list[dict[str, Any]]:
    """The measurements a metric has made under this protocol and checkpoint."""
    return [
      row
      for row in self.metrics.values()
      if row.get("asked") == _asked(name, protocol)
      and row.get("checkpoint") == self._identity
    ]

  def add(
    self, metric: str, protocol: Protocol, rows: Iterable[Measurement]
  ) -> list[dict[str, Any]]:
    """Writes measurements; those of other splits than test carry its name."""
    added = []
    for row in rows:
      prefix = "" if protocol.split == "test" else f"{protocol.split}/"
      entry = dataclasses.asdict(row) | {
        "checkpoint": self._identity,
        "asked": _asked(metric, protocol),
        "provenance": provenance.describe(),
      }
      entry["name"] = prefix + row.name
      self.metrics[entry["name"]] = entry
      added.append(entry)
    files.write_json(self.path, {"format_version": 1, "metrics": self.metrics})
    return added


def _asked(metric: str, protocol: Protocol) -> dict[str, Any]:
  asked = {"metric": metric, **dataclasses.asdict(protocol)}
  if network := protocol.networks().get(metric):
    # Another network of the same name is another question.
    asked[metric] = files.digest(network)
  return asked


def identity(model: Model) -> str:
  """Tells a model's weights from all others."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves((model.weights.parameters, model.weights.statistics)):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:16]


def published(dataset: str, metric: str) -> tuple[float, float] | None:
  """The thesis's value and error of a metric, where it has one."""
  place = _PUBLISHED.get((dataset, metric))
  if place is None:
    return None
  table, row, column = place
  numbers = json.loads(_NUMBERS.read_text())[table][row]
  value, error = numbers if column is None else numbers[column]
  return float(value), float(error)


_TABLE_3_1, _FIGURE_3_4 = "table_3_1_mnist_log_likelihood", "figure_3_4_mnist_parzen"
_TABLE_3_2 = "table_3_2_cifar10_inception_score"
_PUBLISHED: dict[tuple[str, str], tuple[str, str, int | None]] = {
  ("mnist", "bound"): (_TABLE_3_1, "Infusion (lower bound)", 0),
  ("mnist", "train/bound"): (_TABLE_3_1, "Infusion (lower bound)", 1),
  ("mnist", "importance"): (_TABLE_3_1, "Infusion (IS)", 0),
  ("mnist", "train/importance"): (_TABLE_3_1, "Infusion (IS)", 1),
  ("mnist", "isotropic"): (_TABLE_3_1, "Infusion + isotropic (IS)", 0),
  ("mnist", "train/isotropic"): (_TABLE_3_1, "Infusion + isotropic (IS)", 1),
  ("mnist", "parzen"): (_FIGURE_3_4, "Infusion", None),
  ("cifar10", "inception_score"): (_TABLE_3_2, "Infusion", None),
}
