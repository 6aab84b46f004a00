"""Measures a trained model: python -m experiments.evaluate --workdir=DIR.

Prints a table and writes DIR/evaluation.json. What is finished is kept: the same
command goes on where it was interrupted, and repeats nothing. With --against=OTHER
the model in OTHER is measured alike, and the two are compared image by image.
"""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
from absl import flags

from experiments import common, selection
from infusion_jax import evaluation
from infusion_jax.config import Config
from infusion_jax.drawing import markdown
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.likelihood import Gap
from infusion_jax.model import load
from infusion_jax.storage import files
from infusion_jax.training import signals
from infusion_jax.training.workdir import unwritable

_LOCK_FILE = "evaluation.lock"
#: With fewer annealed images the choice of images may decide the ranking.
_ENOUGH = 64

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run.")
_AGAINST = flags.DEFINE_string(
  "against",
  None,
  "Workdir of another run on the same data: it is measured alike, with the same images"
  " and noise, and the mean difference image by image is printed with its error.",
)
_METRICS = flags.DEFINE_list(
  "metrics", ["bound", "importance"], f"Any of {', '.join(evaluation.METRICS)}."
)
_TUNE_PROPOSAL = flags.DEFINE_bool(
  "tune_proposal",
  False,
  "Also the importance estimate with the proposal's rates chosen on validation.",
)
_REFERENCES = flags.DEFINE_bool(
  "references",
  True,
  "Also what trivial models reach on the same images (an independent histogram, a"
  " Gaussian with all covariances) or, for parzen, real images instead of samples.",
)
_DATA_PATH = flags.DEFINE_string("data_path", None, "Where the data are, if moved.")
_PROGRESS = flags.DEFINE_bool(
  "progress", True, "Bars on stderr, if it is a terminal; else lines."
)
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
  folders = [pathlib.Path(value) for value in (_WORKDIR.value, _AGAINST.value) if value]
  if len({folder.resolve() for folder in folders}) < len(folders):
    raise UserError(
      f"--against is {_AGAINST.value!r}, which is --workdir; allowed is another run"
    )
  try:
    with signals.asking() as asked, contextlib.ExitStack() as stack:
      both = [
        stack.enter_context(_session(folder, metrics, protocol, asked))
        for folder in folders
      ]
      _check_comparable(both)
      measured = [_measured(session, metrics) for session in both]
      beside = _measured(both[0], _references(metrics, both[0]))
  except signals.Stopped as stopped:
    print(f"{stopped}; the same command resumes", file=sys.stderr)
    sys.exit(signals.EXIT_CODE)
  for session, rows in zip(both, measured, strict=True):
    print(f"{session.folder}: {session.dataset.name}, {protocol.split} split")
    print(table([*rows, *beside], session.dataset.name, session.model.config))
    for sentence in filter(None, map(evaluation.caution, rows)):
      print(sentence)
  if len(both) > 1:
    print(f"{both[0].folder} against {both[1].folder}, image by image")
    print(comparison(*measured))


@contextlib.contextmanager
def _session(
  workdir: pathlib.Path,
  metrics: list[str],
  protocol: Protocol,
  asked: Callable[[], bool],
) -> Iterator[Session]:
  """A session in a workdir that no other process evaluates meanwhile."""
  model = load(workdir)
  dataset = selection.load_dataset(model, _DATA_PATH.value)
  dataset.split(protocol.split)
  evaluation.check_extractors(metrics, protocol, dataset)
  evaluation.check_labels(metrics, model, protocol)
  try:
    with files.locked(workdir / _LOCK_FILE, f"the evaluation in {workdir}"):
      model = evaluation.with_population_statistics(model, dataset)
      yield Session(model, dataset, protocol, workdir, _PROGRESS.value, asked)
  except OSError as error:
    raise unwritable(workdir, error) from error


def _measured(session: Session, metrics: list[str]) -> list[dict]:
  return [row for metric in metrics for row in session.measure(metric)]


def _references(metrics: list[str], session: Session) -> list[str]:
  """What the metrics are to be compared with, unless it is asked for anyway."""
  if not _REFERENCES.value:
    return []
  found = evaluation.references_of(metrics, session.dataset)
  return [name for name in found if name not in metrics]


def _check_comparable(sessions: list[Session]) -> None:
  """Two models are compared on the same images."""
  splits = (session.dataset.split(session.protocol.split) for session in sessions)
  first, *others = splits
  if not all(np.array_equal(first, images) for images in others):
    raise UserError(
      f"--against is {_AGAINST.value!r}, whose data have other images to measure on;"
      " allowed are runs on the same data"
    )


def table(rows: list[dict], dataset: str, config: Config) -> str:
  """Measurements beside the published values, as text."""
  headers = ["metric", "value", "std. error", "deviation", "bits/dim", "published"]
  return markdown.table(
    [*headers, "protocol"],
    [
      [
        row["name"],
        _number(row["value"]),
        _number(row["standard_error"]),
        _number(row["deviation"]),
        _bits(row),
        _published(dataset, row, config),
        evaluation.in_words(row),
      ]
      for row in rows
    ],
  )


def comparison(rows: list[dict], others: list[dict]) -> str:
  """Two models' measurements and the mean difference image by image, as text."""
  lines, sentences = [], []
  for row, other in zip(rows, others, strict=True):
    if (found := evaluation.paired(row, other)) is None:
      continue
    gap, count = Gap(found.mean, found.standard_error), row["protocol"]["num_images"]
    values = _number(row["value"]), _number(other["value"])
    lines.append([row["name"], *values, str(gap), gap.verdict, f"{count} images"])
    if "temperatures" in row["protocol"] and count < _ENOUGH:
      sentences.append(
        f"{row['name']} compares the models on {count} images only; on other images"
        f" the order may be another: take at least --ais_images={_ENOUGH}"
      )
  headers = ["metric", "this", "other", "difference", "this is", "protocol"]
  return "\n".join([markdown.table(headers, lines), *sentences])


def _number(value: float | None) -> str:
  if value is None:
    return "-"
  # Kernel distances are small numbers and need more digits.
  return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _bits(row: dict) -> str:
  bits = row["details"].get("bits_per_dimension")
  return "-" if bits is None else f"{bits:.3f}"


def _published(dataset: str, row: dict, config: Config) -> str:
  found = evaluation.published(dataset, row["name"], config)
  if found is None:
    return "-"
  gap = found.gap(row)
  return f"{found.value:.1f} ({found.where}; {gap.verdict}, {gap})"


if __name__ == "__main__":
  common.run(main)
