"""Measures a trained model: python -m experiments.evaluate --workdir=DIR.

Prints a table and writes DIR/evaluation.json. What is finished is kept: the same
command goes on where it was interrupted, and repeats nothing.
"""

import pathlib

from absl import flags

from experiments import common, selection
from infusion_jax import evaluation
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import plots
from infusion_jax.evaluation import Protocol
from infusion_jax.model import Model, load
from infusion_jax.storage import files
from infusion_jax.training.workdir import unwritable

_LOCK_FILE = "evaluation.lock"

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run.")
_METRICS = flags.DEFINE_list(
  "metrics", ["bound", "importance"], f"Any of {', '.join(evaluation.METRICS)}."
)
_TUNE_PROPOSAL = flags.DEFINE_bool(
  "tune_proposal",
  False,
  "Also the importance estimate with the proposal's rates chosen on validation.",
)
_DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data are, if moved.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars on stderr.")
_PROTOCOL = common.dataclass_flags(Protocol)
flags.adopt_module_key_flags(common)


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Loads the model, measures, prints."""
  del argv
  metrics = evaluation.check_metrics(
    [*_METRICS.value, *(["importance_tuned"] if _TUNE_PROPOSAL.value else [])]
  )
  protocol = _PROTOCOL()
  workdir = pathlib.Path(_WORKDIR.value)
  model = load(workdir)
  dataset = selection.load_dataset(model, _DATA_PATH.value)
  dataset.split(protocol.split)
  evaluation.check_extractors(metrics, protocol, dataset)
  try:
    with files.locked(workdir / _LOCK_FILE, f"the evaluation in {workdir}"):
      rows = _measure(model, dataset, metrics, protocol, workdir)
  except OSError as error:
    raise unwritable(workdir, error) from error
  print(f"{workdir}: {dataset.name}, {protocol.split} split")
  print(table(rows, dataset.name, model.config))


def _measure(
  model: Model,
  dataset: Dataset,
  metrics: list[str],
  protocol: Protocol,
  workdir: pathlib.Path,
) -> list[dict]:
  """The measurements of all metrics, those that were already there among them."""
  identity = evaluation.identity(model)
  report = evaluation.Report(workdir, identity)
  session = evaluation.Session(
    evaluation.with_population_statistics(model, dataset),
    dataset,
    protocol,
    evaluation.Parts(workdir / evaluation.PARTS_FILE, identity),
    _PROGRESS.value,
  )
  rows = []
  for metric in metrics:
    rows += report.finished(metric, protocol) or report.add(
      metric, protocol, evaluation.METRICS[metric](session)
    )
  return rows


def table(rows: list[dict], dataset: str, config: Config) -> str:
  """Measurements beside the published values, as text."""
  headers = ["metric", "value", "std. error", "deviation", "published", "protocol"]
  return plots.markdown_table(
    headers,
    [
      [
        row["name"],
        _number(row["value"]),
        _number(row["standard_error"]),
        _number(row["deviation"]),
        _published(dataset, row, config),
        _protocol(row),
      ]
      for row in rows
    ],
  )


def _number(value: float | None) -> str:
  if value is None:
    return "-"
  # Kernel distances are small numbers.
  return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _published(dataset: str, row: dict, config: Config) -> str:
  found = evaluation.published(dataset, row["name"], config)
  if found is None:
    return "-"
  gap = row["value"] - found.value
  verdict = "reached" if gap >= 0 else "missed"
  return f"{found.value:.1f} ({found.where}; {verdict}, {gap:+.1f})"


def _protocol(row: dict) -> str:
  protocol, details = row["protocol"], row["details"]
  facts = [f"{protocol['num_images']} images"]
  facts += [f"{protocol[k]} {n}" for k, n in _COUNTS.items() if k in protocol]
  if accuracy := protocol.get("extractor", {}).get("test_accuracy"):
    facts.append(f"classifier of accuracy {accuracy:.3f}")
  if "real_images" in details:
    facts.append(f"real images {details['real_images']:.2f}")
  if "sigma" in protocol:
    facts.append(f"sigma {protocol['sigma']:.3g}")
  if "median_ess" in details:
    facts.append(f"median ESS {details['median_ess']:.1f}")
  if "bits_per_dimension" in details:
    facts.append(f"{details['bits_per_dimension']:.3f} bits/dim")
  return ", ".join(facts)


_COUNTS = {
  "num_chains": "chains",
  "repetitions": "repetitions",
  "num_samples": "samples",
  "temperatures": "temperatures",
  "splits": "splits",
  "subsets": "subsets",
}


if __name__ == "__main__":
  common.run(main)
