"""One page of all results, made of their `result.json` files alone."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from infusion_jax.drawing import markdown
from infusion_jax.evaluation import results
from infusion_jax.evaluation.results import Published
from infusion_jax.model import load
from infusion_jax.paper import others, records
from infusion_jax.paper.descriptions import Book, Target
from infusion_jax.storage import files

FILE = "README.md"
#: Scales that have a column of their own; a smoke run is no result.
_SCALES = ("small", "medium", "full")

_HEAD = """## How this page is made

Every table and figure of the thesis beside ours. This page is made from the
`result.json` files beneath it; do not edit it by hand:

```bash
python -m experiments.reproduce --target=all --scale=small \\
  --workdir=runs/reproduce --data=$INFUSION_JAX_DATA --out=results
python -m experiments.reproduce --index_only --out=results
```

*Small* scale is cut to minutes a target on 2 CPU cores: fewer epochs, images and
chains, as each table and picture says. Its numbers show that the commands work and
which way things go; they are not expected to reach the published ones, and every gap
is printed with its standard error: *above* and *below* say more than two of them.
*Medium* scale is a night on a laptop: all training images, the thesis's networks, fewer
epochs and chains. *Full* scale is the thesis's protocol and meant for a GPU
(`scripts/reproduce_gpu.sh`). Standard errors of importance sampling do not contain its
bias: where the median effective sample size is below 2 the value may be far too low."""

_TITLE = "# Results"

_BEST = """## What was reached

The thesis's main numbers on MNIST (T = 15) beside the best of the models in
[`checkpoints`](checkpoints), whatever their T and criterion. ± is the standard error
over images; *above* and *below* say more than two of them."""

_REACHED = """Each of these models beside the published number of its own schedule;
all were trained for minutes to hours on 2 CPU cores, or minutes on a GPU, and measured
by `experiments.evaluate --workdir=results/checkpoints/NAME`. Interpolation is another
q ([likelihood](likelihood/README.md#mnist-interpolation)), the thesis's is the
mixture."""

#: Metrics that the best model is looked for in, and those that estimate the same.
_MAIN = (
  ("lower bound", ("bound",)),
  ("importance sampling", ("importance", "importance_tuned")),
  ("isotropic output, importance sampling", ("isotropic",)),
  ("Parzen estimate", ("parzen",)),
)

_CHECKPOINTS = "checkpoints"

_TAIL = """## Other files

- `checkpoints/digits`: the model of `make demo`, for the notebook;
  `digits_samples.png` and `digits_chains.png` are drawn from it.
- [`why_missed.md`](why_missed.md): why numbers of small scale miss the published ones.
- [`training`](training/README.md): what in training lifts bound, importance sampling
  and annealed importance sampling, on MNIST and on the digits.
- [`mnist_t15`](mnist_t15/README.md): the thesis's main model, its pictures and curves.
- [`own_images`](own_images/README.md): faces at 32x32 and, grey, at 48x48, a quarter
  of an hour to twenty minutes on two cores.
- [`compare`](compare/README.md): infusion and eleven rival methods on one budget.
- [`likelihood`](likelihood/README.md): recipes on one budget, bound against pictures.
- [`mnist_t5`](mnist_t5/README.md): five estimators of one likelihood.
- [`sweeps`](sweeps/mnist/sweep.md): twenty schedules of MNIST, sixteen of the digits.
- [`benchmarks`](../docs/performance.md), [`growth`](growth/growth.png),
  [`long_run`](long_run/memory_over_time.png): speed and memory."""


def write(out: pathlib.Path, book: Book) -> pathlib.Path:
  """Writes the page into the folder of the results, and their tables anew.

  Returns:
    The file.

  Raises:
    UserError: a result is damaged, or the file cannot be written.
  """
  path, targets = out / FILE, list(book.targets.values())
  for target in targets:
    for scale in _SCALES:
      if result := records.read(out, target.name, scale):
        records.renew(out, result)
  files.save_bytes(path, page(out, targets).encode())
  return path


def page(out: pathlib.Path, targets: Sequence[Target]) -> str:
  """The page's text: an overview, then a section for every result."""
  found = {
    (target.name, scale): records.read(out, target.name, scale)
    for target in targets
    for scale in _SCALES
  }
  parts = [_TITLE, *_reached(out), _HEAD, "## Targets", _overview(targets, found)]
  for target in targets:
    parts += [f"## {target.title}: {target.about}"]
    for scale in _SCALES:
      if scale == "medium" and found[target.name, scale] is None:
        continue
      parts += _section(target, scale, found[target.name, scale])
  parts += others.section(out)
  return "\n\n".join([*parts, _TAIL]) + "\n"


def _reached(out: pathlib.Path) -> list[str]:
  """What the trained models in `checkpoints/` reach where the thesis has a number."""
  found = [
    measured
    for folder in sorted(out.glob("checkpoints/*"))
    if (folder / results.FILE).exists()
    for measured in _of_model(folder)
  ]
  if not found:
    return []
  headers = ["what", "published", "ours", "gap", "verdict", "model", "protocol"]
  tables = _best(found), [_row(row["name"], row, *at) for row, *at in found]
  best, each = (markdown.table(headers, [r for r in rows if r]) for rows in tables)
  return [_BEST, best, _REACHED, each]


#: A measurement, the number it is compared with, and the words for its model.
Measured = tuple[dict[str, Any], Published | None, str]


def _of_model(folder: pathlib.Path) -> list[Measured]:
  """All measurements of the model in a folder."""
  model = load(folder)
  chain = model.config.chain
  name = f"[{folder.name}]({_CHECKPOINTS}/{folder.name}), T = {chain.num_steps}"
  return [
    (row, results.published(row["protocol"]["data"], row["name"], model.config), name)
    for row in results.Report(folder, results.identity(model)).metrics.values()
  ]


def _best(found: Sequence[Measured]) -> list[list[str]]:
  """The highest measurement of each main number, beside the thesis's main model."""
  rows = []
  for words, names in _MAIN:
    mine = [
      (row, name)
      for row, _, name in found
      if row["name"] in names and row["protocol"]["data"] == "mnist"
    ]
    if mine:
      row, name = max(mine, key=lambda pair: pair[0]["value"])
      rows.append(_row(words, row, results.headline("mnist", names[0]), name))
  return rows


def _row(
  words: str, row: Mapping[str, Any], published: Published | None, name: str
) -> list[str]:
  """A row of a table; empty where nothing is published."""
  if published is None:
    return []
  gap = published.gap(row)
  ours = f"{row['value']:.1f} ± {row['standard_error']:.1f}"
  theirs = f"{published.value:.1f} ({published.where})"
  return [words, theirs, ours, str(gap), gap.verdict, name, results.in_words(row)]


def _overview(
  targets: Sequence[Target], found: Mapping[tuple[str, str], dict[str, Any] | None]
) -> str:
  rows = [
    [
      f"[{target.title}](#{_anchor(target)})",
      target.about,
      *(_summary(found[target.name, scale]) for scale in _SCALES),
    ]
    for target in targets
  ]
  headers = ["", "what", *(f"{scale} scale" for scale in _SCALES)]
  return markdown.table(headers, rows)


def _anchor(target: Target) -> str:
  """What GitHub calls the section of a target."""
  text = f"{target.title}: {target.about}".lower()
  return "".join(c for c in text if c.isalnum() or c in " -_").replace(" ", "-")


def _summary(result: Mapping[str, Any] | None) -> str:
  """How a target came out, in a few words."""
  if result is None:
    return "not measured"
  verdicts = [number["verdict"] for number in result["numbers"]]
  counted = {word: verdicts.count(word) for word in _COUNTED}
  words = [f"{count} {word}" for word, count in counted.items() if count]
  return ", ".join(words) or ("drawn" if result["pictures"] else "measured")


_COUNTED = ("above", "within the error", "below", "not measured")


def _section(target: Target, scale: str, result: Mapping[str, Any] | None) -> list[str]:
  if result is None:
    return [f"### {scale.capitalize()} scale: not measured"]
  folder = f"{target.name}/{scale}"
  parts = [f"### {scale.capitalize()} scale", *records.notes(result)]
  for name, caption in result["pictures"].items():
    parts.append(f"![{target.title}: {caption}]({folder}/{name})")
  if result["numbers"]:
    parts.append(records.table(result["numbers"]))
  return [*parts, *result["remarks"], _origin(folder, result)]


def _origin(folder: str, result: Mapping[str, Any]) -> str:
  """Where a result comes from, in a line."""
  source, seconds = result["provenance"], result["seconds"]
  versions = ", ".join(
    f"{name} {version}"
    for name, version in source["versions"].items()
    if name in ("python", "jax", "flax")
  )
  return (
    f"`{source['command']}` at commit {source['commit']}, {source['device']}"
    f" ({source['num_devices']} devices), {versions}; {_minutes(seconds['training'])}"
    f" of training (shared with other targets), {_minutes(seconds['measuring'])} of"
    f" measuring and drawing: [{records.RESULT_FILE}]({folder}/{records.RESULT_FILE})"
  )


def _minutes(seconds: float) -> str:
  return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
