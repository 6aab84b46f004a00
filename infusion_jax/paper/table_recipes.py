"""How every table is measured beside the published one, and figure 3.4's number."""

import dataclasses
from collections.abc import Collection
from typing import Any

from infusion_jax import evaluation
from infusion_jax.drawing import outputs
from infusion_jax.evaluation import Protocol
from infusion_jax.metrics import extractors
from infusion_jax.paper.materials import Materials
from infusion_jax.paper.records import Number, Outcome
from infusion_jax.paper.runs import Table, Trained
from infusion_jax.storage import published_numbers
from infusion_jax.sweep import result_files, tables

_TABLE_3_1 = "table_3_1_mnist_log_likelihood"
_OURS = {
  "bound": "Infusion (lower bound)",
  "importance": "Infusion (IS)",
  "isotropic": "Infusion + isotropic (IS)",
}
_BEYOND = {
  "importance_tuned": "Infusion (IS, proposal's rates chosen on validation)",
  "ais": "Infusion (AIS)",
  "ais_gap": "Infusion (AIS): gap of its sandwich on images of the model",
  "ais_isotropic": "Infusion + isotropic (AIS)",
  "ais_isotropic_gap": "Infusion + isotropic (AIS): gap of its sandwich",
}


def likelihoods(materials: Materials) -> Outcome:
  """Table 3.1: three estimates on test and training images, then what goes beyond."""
  (trained,), options = materials.trained, materials.options
  numbers, cautions = [], []
  for column, split in enumerate(("test", "train")):
    protocol = Protocol(split=split, **options[split])
    for metric, name in _OURS.items():
      rows = materials.measured(trained, metric, protocol)
      cautions += filter(None, map(evaluation.caution, rows))
      value, error = published_numbers.numbers(_TABLE_3_1, name)[column]
      numbers += [
        _number(row, f"{name}, {split}", published=value, published_error=error)
        for row in rows
      ]
    numbers += _beyond(materials, trained, protocol) if split == "test" else []
  return Outcome(
    [*numbers, *_peers(_TABLE_3_1, _OURS.values(), 0, ", test")],
    remarks=(
      "Deviation over repetitions after ±, as in the thesis; in brackets the standard"
      " error of the mean over images, and with gaps.",
      *cautions,
    ),
  )


def _beyond(materials: Materials, trained: Trained, protocol: Protocol) -> list[Number]:
  """Estimates that the thesis has not: annealing, and a chosen proposal."""
  options = materials.options
  numbers = []
  for metric in options["beyond"]:
    if metric.startswith("ais"):
      protocol = dataclasses.replace(
        protocol, repetitions=1, sandwich=True, **options["annealing"]
      )
    for row in materials.measured(trained, metric, protocol):
      numbers.append(_number(row, f"{_BEYOND.get(row['name'], row['name'])}, test"))
  return numbers


def _number(row: dict[str, Any], name: str, **more: Any) -> Number:
  return Number(
    name,
    row["value"],
    error=row["standard_error"],
    deviation=row["deviation"],
    protocol=_words(row),
    **more,
  )


def _words(row: dict[str, Any]) -> str:
  """A measurement's protocol in a few words."""
  protocol, details = row["protocol"], row["details"]
  words = [
    f"{protocol[key]:,} {word}" for key, word in _COUNTS.items() if key in protocol
  ]
  words += [f"{word} {protocol[k]:.4g}" for k, word in _VALUES.items() if k in protocol]
  if "median_ess" in details:
    words.append(f"median effective sample size {details['median_ess']:.1f}")
  return ", ".join(words)


_COUNTS = {
  "num_images": "images",
  "num_chains": "chains",
  "repetitions": "repetitions",
  "num_samples": "samples",
  "temperatures": "temperatures",
  "chain_steps": "steps",
}
_VALUES = {"sigma": "sigma", "output_variance": "variance"}


def _peers(
  table: str, ours: Collection[str], column: int | None, suffix: str = ""
) -> list[Number]:
  """The lines of a published table that are about other methods."""
  rows = published_numbers.numbers(table)
  found = []
  for name, values in rows.items():
    if name in ("columns", "protocol", *ours):
      continue
    value, error = values if column is None else values[column]
    found.append(
      Number(f"{name}{suffix}", published=value, published_error=error, peer=True)
    )
  return found


def parzen(materials: Materials) -> Outcome:
  """Figure 3.4: the Parzen estimate on all test images."""
  (trained,) = materials.trained
  table = "figure_3_4_mnist_parzen"
  value, error = published_numbers.numbers(table, "Infusion")
  protocol = Protocol(num_images=0, **materials.options)
  rows = materials.measured(trained, "parzen", protocol)
  ours = [
    _number(row, "Infusion", published=value, published_error=error) for row in rows
  ]
  return Outcome([*ours, *_peers(table, ("Infusion",), None)])


def score(materials: Materials) -> Outcome:
  """Table 3.2: the Inception score of samples, and distances to training images."""
  (trained,) = materials.trained
  table = "table_3_2_cifar10_inception_score"
  value, error = published_numbers.numbers(table, "Infusion")
  names = extractors.NAMES["inception"]
  told = {names.frechet: "Infusion, FID", names.kernel: "Infusion, KID"}
  protocol = Protocol(
    split="train",
    num_images=0,
    inception=materials.inception,
    **materials.options,
  )
  numbers = []
  for row in materials.measured(trained, "inception", protocol):
    name = row["name"].removeprefix("train/")
    if name in told:
      numbers.append(_number(row, told[name]))
    else:
      published = {"published": value, "published_error": error}
      numbers.append(_number(row, "Infusion", **published))
  return Outcome([*numbers, *_peers(table, ("Infusion",), None)])


def rates(materials: Materials) -> Outcome:
  """Table A.1: bounds and sample means, sub-table by sub-table."""
  (table,) = materials.trained
  panels = tables.panels(table.rows)
  pictures = {}
  for panel, rows in panels.items():
    picture = result_files.sample_rows(rows)
    if picture is not None:
      pictures[f"{outputs.file_name(panel)}.png"] = materials.titled(picture, panel)
  protocol = tables.describe(table.protocol)
  remarks = [
    f"Protocol: {protocol}.",
    *(
      f"{tables.order(panel, rows)}." for panel, rows in panels.items() if len(rows) > 1
    ),
    published_numbers.numbers("table_a1_mnist_lower_bound_test", "note"),
  ]
  numbers = [*_published_rates(table), *_other_rates(table)]
  captions = {outputs.file_name(panel) + ".png": panel for panel in panels}
  return Outcome(numbers, pictures, captions, remarks)


def _published_rates(table: Table) -> list[Number]:
  """A line for every rate of the published table, whether it was trained or not.

  Another follows for one that was trained with the first rate twice: the authors' text
  and script read the schedule differently, and the table may rest on either.
  """
  found = {
    (
      row.config.chain.num_steps,
      row.place.rate,
      row.config.chain.repeat_first_rate,
    ): row
    for row in table.rows
    if row.published is not None
  }
  numbers = []
  for steps, rates in published_numbers.numbers(
    "table_a1_mnist_lower_bound_test"
  ).items():
    if not isinstance(rates, dict):
      continue
    for rate, bound in rates.items():
      key = int(steps.removeprefix("T=")), float(rate)
      name = f"{steps.replace('=', ' = ')}, rate {float(rate):g}"
      numbers.append(_rate(name, found.get((*key, False)), published=bound))
      if (*key, True) in found:
        twice = f"{name}, first rate twice"
        numbers.append(_rate(twice, found[*key, True], published=bound))
  return numbers


def _other_rates(table: Table) -> list[Number]:
  """Rates of which the thesis gives no bound: the constant ones."""
  return [
    _rate(f"{row.place.panel.removesuffix(' rate')} rate {row.place.label}", row)
    for row in table.rows
    if row.published is None
  ]


def _rate(name: str, row: tables.Row | None, **more: Any) -> Number:
  if row is None:
    return Number(name, **more)
  how = "" if row.epochs is None else f"{row.status}, {row.epochs} epochs"
  return Number(name, row.test_bound, error=row.standard_error, protocol=how, **more)
