"""A run as one HTML file: pictures first, then numbers and what they rest on.

The file opens from disk and loads nothing, see `documents`; there is no script.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import jax
import numpy as np

from infusion_jax import evaluation, pixels
from infusion_jax.config import Config, dotted_keys, value_of
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import clouds, line_plots, plots
from infusion_jax.model import Model, keys_of
from infusion_jax.objectives import OPTIONS
from infusion_jax.storage import provenance
from infusion_jax.training import epochs, metrics_log, workdir
from infusion_jax.views import density, documents, figures, inpainting
from infusion_jax.views.documents import Section, figure, paragraph, table

_SAMPLES = 64
_CHAINS = 8
_INPAINTED, _RESTARTS = 5, 6
_STYLE = "report.css"
#: Grey between images: neither a light nor a dark page makes it glare.
_GROUND = 90
_LABELS = 20

#: The report's note on what a standard error over images leaves out.
_ONE_RUN = (
  "± is the standard error over images. It says nothing of how far another seed of"
  " training would end from here."
)


def of_run(
  model: Model,
  folder: pathlib.Path,
  dataset: Dataset | None,
  *,
  missing: str = "",
  num_steps: int | None = None,
) -> str:
  """The report of a run.

  Args:
    model: of its checkpoint.
    folder: its workdir.
    dataset: its data, for neighbours and inpainting, or None.
    missing: why there are no data.
    num_steps: length of the chains; by default as trained.

  Returns:
    The HTML file's content.

  Raises:
    UserError: a file in the workdir is damaged, or data do not fit the model.
  """
  drawn, compared = _shown(model, dataset, missing, num_steps)
  sections = [
    *drawn,
    Section("Evaluation", _evaluation(model, folder)),
    Section("Curves", _curves(folder)),
    *compared,
    Section("Time and parameters", documents.facts(_costs(model, folder))),
  ]
  parts = [
    documents.facts(_summary(model)),
    *map(documents.section, sections),
    documents.folded("Configuration", config_table(model.config)),
    documents.folded("Provenance", provenance_table(workdir.read_launches(folder))),
  ]
  title = f"Infusion training: {model.about.get('dataset', folder.name)}"
  return page(title, "\n".join(parts))


def page(title: str, body: str) -> str:
  """A report; `title` is text, `body` HTML."""
  head = documents.heading(title)
  return documents.document(title, f"{head}\n<main>\n{body}\n</main>", _STYLE)


def config_table(config: Config) -> str:
  """The keys that a configuration makes use of; defaults where they are others."""
  rows = [
    (key, value_of(config, key), _default(config, key))
    for key in dotted_keys()
    if key not in _READ_IF or _READ_IF[key](config)
  ]
  return table(["key", "value", "default"], rows, "compact")


def provenance_table(launches: list[dict[str, Any]]) -> str:
  """Where a result comes from: what was launched, and this report."""
  names = ("commit", "device", "versions", "command")
  told = [*launches, provenance.describe()]
  return table(names, [[row.get(name) for name in names] for row in told])


def duration(seconds: float) -> str:
  """A time as a person says it: "45 s", "12 min", "3 h 5 min"."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  hours, minutes = divmod(round(seconds / 60), 60)
  return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _summary(model: Model) -> list[tuple[str, Any]]:
  about = model.about
  bound = about.get("best_bound")
  return [
    ("data", about.get("dataset")),
    ("network", model.config.model.name),
    ("steps T", model.network.num_steps),
    ("epochs", about.get("epoch")),
    (
      "best validation bound",
      bound
      if bound is None
      else f"{bound:.2f} nats per image, after epoch {about.get('best_epoch')}",
    ),
  ]


def _costs(model: Model, folder: pathlib.Path) -> list[tuple[str, Any]]:
  shared, per_step = (
    sum(leaf.size for leaf in jax.tree.leaves(part))
    for part in model.weights.parameters
  )
  done, seconds = epochs.time_spent(folder)
  launches = workdir.read_launches(folder)
  return [
    ("parameters of all steps", f"{shared:,}"),
    ("of single steps", f"{per_step:,} ({model.network.num_steps} steps)"),
    ("training", f"{duration(seconds)}, {done} epochs" if done else None),
    ("an epoch", f"{seconds / done:.3g} s" if done else None),
    ("trained on", launches[-1].get("device") if launches else None),
  ]


def _shown(
  model: Model, dataset: Dataset | None, missing: str, num_steps: int | None
) -> tuple[list[Section], list[Section]]:
  """What is seen first, and what is compared with the data further below."""
  if clouds.are_points(model.image_shape):
    return _density(model, dataset, missing), []
  compared = _with_data(model, dataset, missing, num_steps)
  return _pictures(model, num_steps), compared


def _density(model: Model, dataset: Dataset | None, missing: str) -> list[Section]:
  """Of a model of points in the plane."""
  if dataset is None:
    return [Section("Density", paragraph(f"Not drawn: {missing}."))]
  found = density.look(model, dataset, jax.random.key(0))
  caption = "Training points, samples, and the density by numerical integration."
  steps = (
    "Where many chains are at every step; last column: draws, and training points."
  )
  return [
    Section("Density", figure(found.picture, caption)),
    Section("Chains", figure(found.steps, steps, "strip")),
  ]


def _pictures(model: Model, num_steps: int | None) -> list[Section]:
  keys = keys_of(jax.random.key(0), range(_SAMPLES))
  frames = figures.model_chains(model, keys, num_steps=num_steps)
  samples = plots.grid(frames.images[:, -1], background=_GROUND)
  moving = plots.gif(frames.images.swapaxes(0, 1), background=_GROUND)
  side_by_side = documents.row(
    figure(samples, "Means of the last transition, seeds 0 to 63."),
    figure(moving, "The chains of the same seeds, step by step."),
  )
  some = figures.Frames(frames.images[:_CHAINS], frames.labels, _seeds())
  strip = figure(
    some.strip(), "States of the model chain; last column: the mean of p(T).", "strip"
  )
  return [
    Section("Samples", side_by_side),
    *_classes(model, num_steps),
    Section("Chains", strip),
  ]


def _seeds() -> list[str]:
  return [f"seed {seed}" for seed in range(_CHAINS)]


def _classes(model: Model, num_steps: int | None) -> list[Section]:
  """Samples of the first labels, a row each; nothing where there are no labels."""
  labels = range(min(model.num_classes, _LABELS))
  if not labels:
    return []
  keys = keys_of(jax.random.key(0), range(_CHAINS))
  rows = [model.sample(keys, num_steps=num_steps, label=label) for label in labels]
  drawn = plots.strip(np.stack(rows), row_labels=[f"label {label}" for label in labels])
  return [Section("Labels", figure(drawn, "Samples of each label, the same seeds."))]


def _with_data(
  model: Model, dataset: Dataset | None, missing: str, num_steps: int | None
) -> list[Section]:
  if dataset is None:
    return [Section("Neighbours and inpainting", paragraph(f"Not drawn: {missing}."))]
  return [
    Section("Nearest training images", _neighbors(model, dataset, num_steps)),
    Section("Inpainting", _inpainting(model, dataset, num_steps)),
  ]


def _neighbors(model: Model, dataset: Dataset, num_steps: int | None) -> str:
  keys = keys_of(jax.random.key(0), range(_CHAINS))
  frames = figures.model_chains(model, keys, num_steps=num_steps, show="means")
  frames, found = figures.with_neighbors(frames, dataset.train, dataset.levels)
  frames = dataclasses.replace(frames, rows=_seeds())
  return figure(
    frames.strip(),
    "Means of every transition; last column: the training image nearest in pixel L2"
    f" to the column before (mean distance {found.distance.mean():.3f}).",
    "strip",
  )


def _inpainting(model: Model, dataset: Dataset, num_steps: int | None) -> str:
  originals = np.asarray(pixels.scaled(dataset.test[:_INPAINTED], dataset.levels))
  known = inpainting.part("top", model.image_shape)
  found = inpainting.complete(
    model, jax.random.key(0), originals, known, _RESTARTS, num_steps=num_steps
  )
  return figure(
    inpainting.panel(originals, found, model.levels),
    "Test images, where the chains start (the top half is known), and where they end.",
    "strip",
  )


def _curves(folder: pathlib.Path) -> str:
  file = folder / metrics_log.FILE
  rows = metrics_log.read(file) if file.exists() else []
  if not rows:
    return paragraph(f"There is no {metrics_log.FILE} in this folder.")
  drawn = [figure(figures.training_curves(rows), "Bound by epoch.", "plot")]
  if loss := metrics_log.series(rows, "loss"):
    lines = line_plots.curves(loss, "epoch", "loss", clip_low_quantile=0.05)
    drawn.append(figure(lines, "Loss by epoch.", "plot"))
  return documents.row(*drawn)


def _evaluation(model: Model, folder: pathlib.Path) -> str:
  identity = evaluation.identity(model)
  rows = list(evaluation.Report(folder, identity).metrics.values())
  if not rows:
    return paragraph("Nothing has been measured; experiments.evaluate does it.")
  old = {row["name"] for row in rows if row.get("checkpoint") != identity}
  headers = ["metric", "value", "unit", "bits/dim", "published", "rests on"]
  cells = [
    [
      row["name"] + (" (older checkpoint)" if row["name"] in old else ""),
      _with_error(row),
      row["unit"],
      row.get("details", {}).get("bits_per_dimension"),
      _published(model, row),
      evaluation.in_words(row),
    ]
    for row in rows
  ]
  cautions = [*filter(None, map(evaluation.caution, rows)), _ONE_RUN]
  protocols = table(
    ["metric", "protocol"], [[row["name"], row["protocol"]] for row in rows]
  )
  return (
    table(headers, cells)
    + "".join(paragraph(text, "caution") for text in cautions)
    + documents.folded("Protocols in full", protocols)
  )


def _with_error(row: Mapping[str, Any]) -> str:
  """The value, its error over images, and its deviation over repetitions."""
  parts = [documents.text_of(row["value"])]
  if row["standard_error"] is not None:
    # Keeps a value and its error on one line.
    parts = [
      f"{parts[0]}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{row['standard_error']:.3g}"
    ]
  if row["deviation"] is not None:
    parts.append(f"(deviation {row['deviation']:.3g} over repetitions)")
  return " ".join(parts)


def _published(model: Model, row: Mapping[str, Any]) -> str | None:
  dataset = row["protocol"].get("data", "")
  found = evaluation.published(dataset, row["name"], model.config)
  if found is None:
    return None
  gap = found.gap(row)
  return f"{found.value:.6g} ({found.where}; {gap.verdict}, {gap})"


def _default(config: Config, key: str) -> Any:
  """A key's default, where the configuration has another value."""
  default = value_of(Config(), key)
  return "" if value_of(config, key) == default else default


def _has(key: str, *values: Any) -> Callable[[Config], bool]:
  return lambda config: value_of(config, key) in values


def _lacks(key: str, *values: Any) -> Callable[[Config], bool]:
  return lambda config: value_of(config, key) not in values


def _takes(name: str) -> Callable[[Config], bool]:
  return lambda config: name in OPTIONS.get(config.train.objective, ())


#: Keys that not every configuration makes use of, and whether one does. A network of
#: the user's own may read any key of a network.
_READ_IF: dict[str, Callable[[Config], bool]] = {
  "data.path": _lacks("data.source", "sklearn", "points"),
  "data.crop": _has("data.source", "tfds", "images"),
  "data.size": _has("data.source", "tfds", "images"),
  "data.fit": _has("data.source", "tfds", "images"),
  "data.grey": _has("data.source", "tfds", "images"),
  "data.bad_pictures": _has("data.source", "images"),
  "data.fold": _has("data.source", "mat"),
  "model.hidden_sizes": _lacks("model.name", "conv", "unet"),
  "model.channels": _lacks("model.name", "mlp"),
  "model.kernel_size": _lacks("model.name", "mlp", "unet"),
  "model.encoder": _lacks("model.name", "mlp", "unet"),
  "model.blocks": _lacks("model.name", "mlp", "conv"),
  "model.groups": _lacks("model.name", "mlp", "conv"),
  "chain.alpha0": _has("chain.rates", ()),
  "chain.omega": _has("chain.rates", ()),
  "chain.repeat_first_rate": _has("chain.rates", ()),
  "chain.target_variance": _has("chain.infusion", "mixture"),
  "train.learn_rates": _lacks("train.objective", "denoising"),
  **{f"train.{name}": _takes(name) for name in chain.from_iterable(OPTIONS.values())},
  "train.parzen_samples": _lacks("train.parzen_every", 0),
}
