"""Which criterion buys likelihood, and what pictures pay: one budget, many recipes.

  python -m scripts.likelihood_front --workdir=runs/front --out=front
  python -m scripts.likelihood_front --config=configs/mnist.py --source=idx \
      --path=MNIST_FOLDER --num_steps=5 --omega=0.1 --epochs=12 --seeds=0 --workdir=...

Every recipe trains the same network for the same number of epochs. The same command
goes on where it was interrupted. Writes README.md, front.json and pictures to --out.
"""

import argparse
import itertools
import json
import pathlib
import runpy
from typing import Any

import jax
import numpy as np

import infusion_jax
from infusion_jax import datasets
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import line_plots, markdown, plots
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.storage import files, provenance
from infusion_jax.sweep import overrides
from infusion_jax.training import loop

_CAREFUL = {"train.learning_rate": 3e-4, "train.clip": 1.0}
_BOUND = {"train.objective": "lower_bound", **_CAREFUL}
_HYBRID = {"train.objective": "hybrid", "train.clip": 1.0}
_DISCRETE = {"train.likelihood": "discrete"}
_BETWEEN = {"chain.infusion": "interpolation"}
_LEARNED = {**_BETWEEN, "train.learn_rates": "step"}

#: Stages of each recipe: share of the epochs, and what is changed.
RECIPES: dict[str, list[tuple[float, dict[str, Any]]]] = {
  "denoising": [(1.0, {})],
  "denoising, clipped": [(1.0, {"train.clip": 1.0})],
  "lower bound": [(1.0, _BOUND)],
  "denoising, then lower bound": [(0.5, {}), (0.5, _BOUND)],
  "hybrid 0.01, constant means": [(1.0, {**_HYBRID, "train.bound_weight": 0.01})],
  "hybrid 0.1, constant means": [(1.0, {**_HYBRID, "train.bound_weight": 0.1})],
  "hybrid 1, constant means": [(1.0, {**_HYBRID, "train.bound_weight": 1.0})],
  "hybrid 0.1, learned means": [
    (1.0, {**_HYBRID, "train.bound_weight": 0.1, "train.bound_means": "learned"})
  ],
  "denoising, grey levels": [(1.0, _DISCRETE)],
  "hybrid 0.1, constant means, grey levels": [
    (1.0, {**_HYBRID, **_DISCRETE, "train.bound_weight": 0.1})
  ],
  "denoising, interpolation": [(1.0, _BETWEEN)],
  "denoising, then lower bound, interpolation": [
    (0.5, _BETWEEN),
    (0.5, {**_BOUND, **_BETWEEN}),
  ],
  "lower bound, interpolation": [(1.0, {**_BOUND, **_BETWEEN})],
  "lower bound, interpolation, learned rates": [(1.0, {**_BOUND, **_LEARNED})],
  "hybrid 0.1, interpolation, learned rates": [
    (1.0, {**_HYBRID, **_LEARNED, "train.bound_means": "learned"})
  ],
  "lower bound, learned rates": [(1.0, {**_BOUND, "train.learn_rates": "step"})],
  "lower bound, score-free": [(1.0, {**_BOUND, "train.score_free": True})],
  "importance weighted": [
    (1.0, {**_CAREFUL, "train.objective": "importance_weighted"})
  ],
  "denoising, self-conditioning": [(1.0, {"model.self_conditioning": True})],
  "denoising, variance floor 1e-6": [(1.0, {"chain.variance_floor": 1e-6})],
  "denoising, latents 4": [(1.0, {"model.latents": 4})],
  "denoising, interpolation, latents 4": [(1.0, {**_BETWEEN, "model.latents": 4})],
}
_MARKERS = "ohsD^v<>PX*pd"
_COLUMNS = (
  "bound",
  "importance",
  "ais",
  "discrete_bound",
  "discrete_importance",
  "parzen",
)
_METRICS = ("bound", "importance", "ais", "discrete", "parzen")


def main() -> None:
  """Trains, measures, writes."""
  options = _options()
  base = _base(options)
  dataset = datasets.from_config(base.data)
  out = pathlib.Path(options.out)
  out.mkdir(parents=True, exist_ok=True)
  found: dict[str, list[dict[str, Any]]] = {}
  for name, stages in _asked(options.only).items():
    for seed in map(int, options.seeds.split(",")):
      folder = pathlib.Path(options.workdir) / _slug(name) / f"seed_{seed}"
      last = _trained(base, dataset, folder, stages, seed, options.epochs)
      found.setdefault(name, []).append(_measured(last, dataset, options))
      if len(found[name]) == 1:
        _draw(last, out / f"samples_{_slug(name)}.png")
  references = _references(last, dataset, options)
  before = _before(out) if options.only else {}
  runs = {name: (before | found)[name] for name in RECIPES if name in before | found}
  _write(out, runs, references, base, dataset, options)


def _asked(names: list[str]) -> dict[str, list[tuple[float, dict[str, Any]]]]:
  """The recipes of these names; all if there are none."""
  unknown = set(names) - RECIPES.keys()
  if unknown:
    raise UserError(
      f"--only is {unknown.pop()!r}; allowed are {', '.join(map(repr, RECIPES))}"
    )
  return {name: RECIPES[name] for name in names or RECIPES}


def _before(out: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
  """The runs that are in --out already."""
  place = out / "front.json"
  return json.loads(place.read_text())["runs"] if place.exists() else {}


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--config", default="configs/digits.py")
  parser.add_argument("--source", default="")
  parser.add_argument("--path", default="")
  parser.add_argument("--num_steps", type=int, default=0)
  parser.add_argument("--omega", type=float, default=0.0)
  parser.add_argument(
    "--only", action="append", default=[], help="a recipe; the others keep their rows"
  )
  parser.add_argument("--epochs", type=int, default=60)
  parser.add_argument("--seeds", default="0,1")
  parser.add_argument("--num_images", type=int, default=0)
  parser.add_argument("--ais_images", type=int, default=64)
  parser.add_argument("--temperatures", type=int, default=500)
  parser.add_argument("--workdir", required=True)
  parser.add_argument("--out", required=True)
  return parser.parse_args()


def _base(options: argparse.Namespace) -> Config:
  values = runpy.run_path(options.config)["get_config"]().to_dict()
  changes: dict[str, Any] = {"train.preview_every": 0, "train.decay": "cosine"}
  if options.source:
    changes |= {"data.source": options.source, "data.path": options.path}
  if options.num_steps:
    changes["chain.num_steps"] = options.num_steps
  if options.omega:
    changes["chain.omega"] = options.omega
  return overrides.apply(Config.from_dict(values), changes)


def _slug(name: str) -> str:
  return "_".join(name.replace(",", "").replace(".", "").split())


def _trained(
  base: Config,
  dataset: Dataset,
  folder: pathlib.Path,
  stages: list[tuple[float, dict[str, Any]]],
  seed: int,
  num_epochs: int,
) -> pathlib.Path:
  """The folder of the last stage; each starts from the one before."""
  before = ""
  for number, (share, changes) in enumerate(stages):
    place = folder / f"stage_{number}"
    changes = {
      **changes,
      "train.seed": seed,
      "train.num_epochs": round(share * num_epochs),
      "train.init_from": before,
    }
    if not _finished(place):
      loop.fit(overrides.apply(base, changes), dataset, place)
    before = str(place)
  return place


def _finished(place: pathlib.Path) -> bool:
  """Whether a stage has the batch statistics that training ends with."""
  if not (place / "checkpoints").is_dir():
    return False
  return infusion_jax.load(place).about.get("statistics") == "population"


def _protocol(options: argparse.Namespace) -> Protocol:
  return Protocol(
    num_images=options.num_images,
    ais_images=options.ais_images,
    ais_chains=2,
    temperatures=options.temperatures,
  )


def _measured(
  folder: pathlib.Path, dataset: Dataset, options: argparse.Namespace
) -> dict[str, Any]:
  model = infusion_jax.load(folder)
  session = Session(model, dataset, _protocol(options), folder)
  # Annealing needs noise that decodes smoothly, which a choice among modes does not.
  names = [
    name for name in _METRICS if name != "ais" or model.config.model.latents == 1
  ]
  return {row["name"]: row for name in names for row in session.measure(name)}


def _references(
  folder: pathlib.Path, dataset: Dataset, options: argparse.Namespace
) -> dict[str, Any]:
  session = Session(infusion_jax.load(folder), dataset, _protocol(options), folder)
  names = ("histogram", "gaussian", "parzen_real")
  return {row["name"]: row for name in names for row in session.measure(name)}


def _draw(folder: pathlib.Path, path: pathlib.Path) -> None:
  model = infusion_jax.load(folder)
  steps = 2 * model.network.num_steps
  plots.save(path, plots.grid(model.sample(jax.random.key(0), 64, num_steps=steps)))


def _write(
  out: pathlib.Path,
  found: dict[str, list[dict[str, Any]]],
  references: dict[str, Any],
  base: Config,
  dataset: Dataset,
  options: argparse.Namespace,
) -> None:
  rows = [
    [name, *(_cell([run[c] for run in runs if c in run]) for c in _COLUMNS)]
    for name, runs in found.items()
  ]
  blank = ["-"] * len(_COLUMNS)
  for name in ("histogram", "gaussian"):
    rows.append([name, _cell([references[name]]), *blank[1:]])
  rows.append(["training images", *blank[1:], _cell([references["parzen_real"]])])
  counts = [len(runs) for runs in found.values()]
  seeds, fewer = max(counts), ", or one" if min(counts) < max(counts) else ""
  text = (
    f"# Likelihood against pictures: {dataset.name}\n\n"
    f"T = {base.chain.num_steps}, {options.epochs} epochs of"
    f" {len(dataset.train):,} images, {seeds} seed{'s' if seeds > 1 else ''}{fewer}."
    " Test images, nats per image, mean over the seeds ± the mean standard error over"
    " images; AIS on"
    f" {min(options.ais_images, len(dataset.test))} images, {options.temperatures}"
    " temperatures, 2 chains. What the columns mean:"
    " [docs/likelihood.md](../../../docs/likelihood.md).\n\n"
    f"{markdown.table(['recipe', *_COLUMNS], rows)}\n\n"
    "![Likelihood against Parzen](front.png)\n"
  )
  files.save_bytes(out / "README.md", text.encode())
  plots.save(out / "front.png", _figure(found))
  content = {"runs": found, "references": references, "made": provenance.describe()}
  for row in (row for runs in found.values() for run in runs for row in run.values()):
    row["details"].pop("per_image", None)
    row["provenance"] = provenance.without_folders(row["provenance"])
  for row in references.values():
    row["details"].pop("per_image", None)
    row["provenance"] = provenance.without_folders(row["provenance"])
  content["made"] = provenance.without_folders(content["made"])
  files.save_bytes(out / "front.json", json.dumps(content, indent=1).encode())


def _cell(rows: list[dict[str, Any]]) -> str:
  if not rows:
    return "-"
  values = [row["value"] for row in rows]
  error = np.mean([row["standard_error"] for row in rows])
  spread = f" ({np.ptp(values):.1f} apart)" if len(values) > 1 else ""
  return f"{np.mean(values):.1f} ± {error:.1f}{spread}"


def _figure(found: dict[str, list[dict[str, Any]]]) -> np.ndarray:
  """Bound against Parzen, a point a recipe."""
  axes = line_plots.new_axes(
    (9.0, 4.5), "Parzen estimate, nats (pictures)", "lower bound, nats (likelihood)"
  )
  axes.grid(color="0.9")
  axes.spines[["top", "right"]].set_visible(False)
  for (name, runs), marker in zip(found.items(), itertools.cycle(_MARKERS)):
    x, y = (
      np.mean([run[column]["value"] for run in runs]) for column in ("parzen", "bound")
    )
    axes.plot(x, y, marker, label=name, markersize=8, alpha=0.8)
  axes.figure.legend(loc="outside right upper", frameon=False, fontsize="small")
  return line_plots.rendered(axes.figure)


if __name__ == "__main__":
  main()
