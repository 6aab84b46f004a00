"""`evaluation.json`: measurements as they come, beside the published numbers."""

import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from infusion_jax.config import BITS, Config
from infusion_jax.errors import UserError
from infusion_jax.evaluation.protocol import PER_IMAGE, Measurement, Protocol
from infusion_jax.likelihood import Gap, Summary, summarize
from infusion_jax.model import Model
from infusion_jax.storage import files, provenance, published_numbers
from infusion_jax.sweep import overrides

FILE = "evaluation.json"
#: `chain.infusion` of all published numbers.
_THE_THESIS_Q = "mixture"
#: Fields that the protocols of earlier versions did not have.
_LATER = ("calibrate", "output_floor", "outliers", "ais_gap", "label")


class Report:
  """`evaluation.json`: what has been measured, kept measurement by measurement."""

  def __init__(self, folder: pathlib.Path, identity: str) -> None:
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
        self.metrics = dict(files.read_json(self.path)["metrics"])
      except (ValueError, KeyError, TypeError) as error:
        raise UserError(
          f"{self.path} is not an evaluation, or damaged ({error}); move it away to"
          " write a new one"
        ) from error

  def finished(
    self, name: str, protocol: Protocol, more: Mapping[str, str] | None = None
  ) -> list[dict[str, Any]]:
    """The measurements a metric has made under this protocol and checkpoint.

    Args:
      name: of the metric.
      protocol: how it measures.
      more: what else the answer depends on, such as a digest of the user's own file
        that defines the metric.
    """
    return [
      row
      for row in self.metrics.values()
      if row.get("asked") == _asked(name, protocol, more)
      and row.get("checkpoint") == self._identity
    ]

  def add(
    self,
    metric: str,
    protocol: Protocol,
    rows: Iterable[Measurement],
    more: Mapping[str, str] | None = None,
  ) -> list[dict[str, Any]]:
    """Writes measurements; those of other splits than test carry its name."""
    added = []
    for row in rows:
      prefix = "" if protocol.split == "test" else f"{protocol.split}/"
      entry = dataclasses.asdict(row) | {
        "checkpoint": self._identity,
        "asked": _asked(metric, protocol, more),
        "provenance": provenance.describe(),
      }
      entry["name"] = prefix + row.name
      self.metrics[entry["name"]] = entry
      added.append(entry)
    files.write_json(self.path, {"format_version": 1, "metrics": self.metrics})
    return added


def _asked(
  metric: str, protocol: Protocol, more: Mapping[str, str] | None
) -> dict[str, Any]:
  asked = {"metric": metric, **dataclasses.asdict(protocol), **(more or {})}
  for name in _LATER:
    if asked[name] == getattr(Protocol, name):
      # Measurements from before this setting existed remain valid.
      del asked[name]
  if network := protocol.networks().get(metric):
    # Includes the file's digest: another network of the same name measures anew.
    asked[metric] = files.digest(network)
  return asked


def identity(model: Model) -> str:
  """Tells a model's weights from all others."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves((model.weights.parameters, model.weights.statistics)):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:16]


class Published(NamedTuple):
  """A number of the thesis.

  Attributes:
    value: in the metric's unit.
    error: its own, as printed there; None where none is.
    where: the table or figure, and the schedule where the one at hand is another.
  """

  value: float
  error: float | None
  where: str

  def gap(self, row: Mapping[str, Any]) -> Gap:
    """How far a measurement is above this number."""
    return Gap.between(row["value"], row["standard_error"], self.value, self.error)


def published(dataset: str, metric: str, config: Config) -> Published | None:
  """The thesis's value of a metric, where it has one.

  Args:
    dataset: the data's name.
    metric: its name, with "train/" before it on training images.
    config: of the model. A bound on test images is compared with that of the very
      schedule alone; other numbers with the thesis's only MNIST model that has them.

  Returns:
    The number, or None: the thesis has neither labels nor bits.
  """
  found = headline(dataset, metric)
  if found is None or config.model.num_classes or config.chain.states == BITS:
    return None
  if dataset == "mnist" and not _is_the_thesis_model(config):
    if metric == "bound":
      own = overrides.published_bound(config)
      if own is None:
        return None
      return Published(own, None, f"table A.1, {_schedule(config)}")
    return found._replace(where=f"{found.where}, T = 15, ω = 0.01")
  return found


def headline(dataset: str, metric: str) -> Published | None:
  """The thesis's value of a metric for its main model, where it has one.

  Args:
    dataset: the data's name.
    metric: its name, as `published` takes it.
  """
  place = _PUBLISHED.get((dataset, metric))
  if place is None:
    return None
  where, row, column = place
  found = published_numbers.numbers(_SECTIONS[where], row)
  value, error = found if column is None else found[column]
  return Published(float(value), float(error), where)


def _is_the_thesis_model(config: Config) -> bool:
  """Whether a schedule is that of table 3.1 and figure 3.4: T = 15, ω = 0.01."""
  chain = config.chain
  schedule = chain.num_steps, chain.alpha0, chain.omega
  return (
    chain.infusion == _THE_THESIS_Q and not chain.rates and schedule == (15, 0.0, 0.01)
  )


def _schedule(config: Config) -> str:
  """A schedule as table A.1 has them."""
  chain = config.chain
  rate = f"α = {chain.alpha0:g}" if chain.num_steps == 1 else f"ω = {chain.omega:g}"
  another = "" if chain.infusion == _THE_THESIS_Q else ", mixture"
  return f"T = {chain.num_steps}, {rate}{another}"


#: Where the numbers of a table or figure stand in `published.json`.
_SECTIONS = {
  "table 3.1": "table_3_1_mnist_log_likelihood",
  "table 3.2": "table_3_2_cifar10_inception_score",
  "figure 3.4": "figure_3_4_mnist_parzen",
}
_PUBLISHED: dict[tuple[str, str], tuple[str, str, int | None]] = {
  ("mnist", "bound"): ("table 3.1", "Infusion (lower bound)", 0),
  ("mnist", "train/bound"): ("table 3.1", "Infusion (lower bound)", 1),
  ("mnist", "importance"): ("table 3.1", "Infusion (IS)", 0),
  ("mnist", "importance_tuned"): ("table 3.1", "Infusion (IS)", 0),
  ("mnist", "train/importance"): ("table 3.1", "Infusion (IS)", 1),
  ("mnist", "isotropic"): ("table 3.1", "Infusion + isotropic (IS)", 0),
  ("mnist", "train/isotropic"): ("table 3.1", "Infusion + isotropic (IS)", 1),
  ("mnist", "parzen"): ("figure 3.4", "Infusion", None),
  ("cifar10", "inception_score"): ("table 3.2", "Infusion", None),
}


def paired(row: Mapping[str, Any], other: Mapping[str, Any]) -> Summary | None:
  """Differences of two models image by image: mean, its standard error.

  What the images differ by among themselves cancels, so two models are told apart
  that their own standard errors do not tell apart.

  Args:
    row: a measurement of one model.
    other: that of another, under the same protocol on the same images.

  Returns:
    The summary of `row` minus `other`, in nats per image; None where one has no
    values image by image.
  """
  both = [entry.get("details", {}).get(PER_IMAGE) for entry in (row, other)]
  if None in both or len(both[0]) != len(both[1]):
    return None
  return summarize(np.subtract(*both))


def caution(row: Mapping[str, Any]) -> str:
  """What the error of a measurement leaves out, in a sentence; empty if nothing."""
  ess = row.get("details", {}).get("median_ess", math.inf)
  if ess >= _FEW:
    return ""
  better = "--metrics=ais"
  if not row["name"].endswith("importance_tuned"):
    better = f"--tune_proposal or {better}"
  return (
    f"{row['name']}: the median effective sample size is {ess:.1f}. The standard error"
    " does not contain the bias of importance sampling, and with so few effective"
    f" chains the value may be far too low; {better} comes nearer."
  )


#: Effective sample sizes below it leave an importance-sampling estimate biased.
_FEW = 2.0


def in_words(row: Mapping[str, Any]) -> str:
  """The protocol of a measurement, and what tells how sure it is, in a few words."""
  protocol, details = row["protocol"], row["details"]
  facts = [f"{protocol['num_images']} images"] if "num_images" in protocol else []
  facts += [f"{protocol[k]} {n}" for k, n in _COUNTS.items() if k in protocol]
  if "label" in protocol:
    facts.append(f"label: {protocol['label']}")
  if accuracy := protocol.get("extractor", {}).get("test_accuracy"):
    facts.append(f"classifier of accuracy {accuracy:.3f}")
  if "real_images" in details:
    facts.append(f"real images {details['real_images']:.2f}")
  if "output_floor" in protocol:
    facts.append(f"floor of the variance {protocol['output_floor']:g}")
  if "outliers" in protocol:
    facts.append(f"share of outliers {protocol['outliers']:g}")
  if "sigma" in protocol:
    facts.append(f"sigma {protocol['sigma']:.3g}")
  if "median_ess" in details:
    facts.append(f"median ESS {details['median_ess']:.1f}")
  return ", ".join(facts)


_COUNTS = {
  "num_chains": "chains",
  "repetitions": "repetitions",
  "variances_fitted_to_images": "images for the variances",
  "num_samples": "samples",
  "temperatures": "temperatures",
  "splits": "splits",
  "subsets": "subsets",
}
