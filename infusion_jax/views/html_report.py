"""A run as one HTML file: config, curves, pictures and numbers.

The file opens from disk and loads nothing: pictures are inside it, there is no
script, and its content policy forbids anything else.
"""

import base64
import html
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from infusion_jax import evaluation, pixels
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import clouds, line_plots, plots
from infusion_jax.drawing.tiles import Picture, to_pil
from infusion_jax.model import Model, keys_of
from infusion_jax.storage import provenance
from infusion_jax.training import metrics_log, workdir
from infusion_jax.views import density, figures, inpainting

_SAMPLES = 64
_CHAINS = 8
_INPAINTED, _RESTARTS = 5, 6


class Section(NamedTuple):
  """A heading and the HTML under it."""

  title: str
  body: str


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
  about = model.about
  facts = {
    "data": about.get("dataset"),
    "network": model.config.model.name,
    "steps T": model.network.num_steps,
    "epochs": about.get("epoch"),
    "best validation bound": _bound(about),
  }
  sections = [
    Section("Summary", table(["", ""], facts.items())),
    Section("Curves", _curves(folder)),
    *_shown(model, dataset, missing, num_steps),
    Section("Evaluation", _evaluation(model, folder)),
    Section("Configuration", _config(model.config.to_dict())),
    Section("Provenance", _provenance(folder)),
  ]
  return page(f"Infusion training: {about.get('dataset', folder.name)}", sections)


def page(title: str, sections: Iterable[Section]) -> str:
  """A whole HTML document; `title` is text, the sections' bodies are HTML."""
  body = "\n".join(
    f"<section>\n<h2>{html.escape(section.title)}</h2>\n{section.body}\n</section>"
    for section in sections
  )
  return _PAGE.format(title=html.escape(title), body=body)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """An HTML table of text; numbers have six digits, None is a dash."""
  head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
  lines = [
    "<tr>" + "".join(f"<td>{html.escape(_text(cell))}</td>" for cell in row) + "</tr>"
    for row in rows
  ]
  top = f"<thead><tr>{head}</tr></thead>" if any(headers) else ""
  return f"<table>{top}<tbody>{''.join(lines)}</tbody></table>"


def figure(picture: Picture | bytes, caption: str) -> str:
  """A picture [H', W', 3], or the content of a GIF file, with text beneath."""
  if isinstance(picture, bytes):
    kind, content = "gif", picture
  else:
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, format="PNG", optimize=True)
    kind, content = "png", buffer.getvalue()
  code = base64.b64encode(content).decode()
  words = html.escape(caption)
  return (
    f'<figure><img src="data:image/{kind};base64,{code}" alt="{words}">'
    f"<figcaption>{words}</figcaption></figure>"
  )


def paragraph(text: str) -> str:
  """A paragraph of text."""
  return f"<p>{html.escape(text)}</p>"


def _shown(
  model: Model, dataset: Dataset | None, missing: str, num_steps: int | None
) -> list[Section]:
  if not clouds.are_points(model.image_shape):
    return [
      *_pictures(model, num_steps),
      *_with_data(model, dataset, missing, num_steps),
    ]
  if dataset is None:
    return [Section("Density", paragraph(f"Not drawn: {missing}."))]
  found = density.look(model, dataset, jax.random.key(0))
  caption = "Training points, samples, and the density by numerical integration."
  steps = (
    "Where many chains are at every step; last column: draws, and training points."
  )
  return [
    Section("Density", figure(found.picture, caption)),
    Section("Chains", figure(found.steps, steps)),
  ]


def _pictures(model: Model, num_steps: int | None) -> list[Section]:
  keys = keys_of(jax.random.key(0), range(_SAMPLES))
  frames = figures.model_chains(model, keys, num_steps=num_steps)
  some = figures.Frames(
    frames.images[:_CHAINS], frames.labels, [f"seed {i}" for i in range(_CHAINS)]
  )
  samples = plots.grid(frames.images[:, -1])
  return [
    Section("Samples", figure(samples, "Means of the last transition, seeds 0 to 63.")),
    Section(
      "Chains",
      figure(some.strip(), "States of the model chain; last column: the mean of p(T).")
      + figure(frames.gif(), "The chains of all samples, step by step."),
    ),
  ]


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
  return figure(
    frames.strip(),
    "Means of every transition; last column: the training image nearest in pixel L2"
    f" to the column before (mean distance {found.distance.mean():.3f}).",
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
  )


def _curves(folder: pathlib.Path) -> str:
  file = folder / metrics_log.FILE
  rows = metrics_log.read(file) if file.exists() else []
  if not rows:
    return paragraph(f"There is no {metrics_log.FILE} in this folder.")
  drawn = [figure(figures.training_curves(rows), "Bound by epoch.")]
  if loss := metrics_log.series(rows, "loss"):
    lines = line_plots.curves(loss, "epoch", "loss", clip_low_quantile=0.05)
    drawn.append(figure(lines, "Loss by epoch."))
  return "\n".join(drawn)


def _evaluation(model: Model, folder: pathlib.Path) -> str:
  identity = evaluation.identity(model)
  rows = evaluation.Report(folder, identity).metrics.values()
  if not rows:
    return paragraph("Nothing has been measured; experiments.evaluate does it.")
  headers = ["metric", "value", "std. error", "deviation", "unit", "bits/dim"]
  cells = [
    [
      row["name"]
      + ("" if row.get("checkpoint") == identity else " (older checkpoint)"),
      row["value"],
      row["standard_error"],
      row["deviation"],
      row["unit"],
      row.get("details", {}).get("bits_per_dimension"),
      _published(model, row),
      ", ".join(f"{key} {_text(value)}" for key, value in row["protocol"].items()),
    ]
    for row in rows
  ]
  cautions = filter(None, map(evaluation.caution, rows))
  return table([*headers, "published", "protocol"], cells) + "".join(
    map(paragraph, cautions)
  )


def _published(model: Model, row: Mapping[str, Any]) -> str | None:
  dataset = row["protocol"].get("data", "")
  found = evaluation.published(dataset, row["name"], model.config)
  if found is None:
    return None
  gap = found.gap(row)
  return f"{found.value:.6g} ({found.where}; {gap.verdict}, {gap})"


def _config(config: Mapping[str, Mapping[str, Any]]) -> str:
  rows = [
    (f"{section}.{key}", value)
    for section, values in config.items()
    for key, value in values.items()
  ]
  return table(["key", "value"], rows)


def _provenance(folder: pathlib.Path) -> str:
  facts = [*workdir.read_launches(folder), provenance.describe()]
  return table(
    ["command", "commit", "device", "versions"],
    [
      [f.get("command"), f.get("commit"), f.get("device"), f.get("versions")]
      for f in facts
    ],
  )


def _bound(about: Mapping[str, Any]) -> str | None:
  bound = about.get("best_bound")
  if bound is None:
    return None
  return f"{bound:.2f} nats per image, after epoch {about.get('best_epoch')}"


def _text(value: Any) -> str:
  if value is None:
    return "–"
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, Mapping):
    return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_text, value)) or "–"
  return str(value)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff; }}
h1, h2 {{ line-height: 1.2; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ccc; }}
section {{ overflow-x: auto; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; font-size: 0.9rem; }}
table {{ border-collapse: collapse; font-size: 0.9rem; }}
th, td {{ text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0;
  border-bottom: 1px solid #eee; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
