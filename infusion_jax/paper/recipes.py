"""How every figure is drawn, and which function makes which table or figure.

A layout maps `Materials` to an `Outcome`. What it measures is kept in the model's
own folder as it goes, so that an interrupted target goes on where it was.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from infusion_jax import pixels
from infusion_jax.drawing import plots, tiles
from infusion_jax.drawing.tiles import Picture
from infusion_jax.model import Model, keys_of, load, untrained
from infusion_jax.model import epochs as kept_epochs
from infusion_jax.paper import runs, table_recipes
from infusion_jax.paper.descriptions import Options
from infusion_jax.paper.materials import Materials, titled
from infusion_jax.paper.records import Number, Outcome
from infusion_jax.paper.runs import Trained
from infusion_jax.sweep import overrides, result_files, tables
from infusion_jax.training import metrics_log
from infusion_jax.views import figures, inpainting
from infusion_jax.views.figures import Frames


def chains(materials: Materials) -> Outcome:
  """Figure 3.1: states of model chains, and the mean they end with."""
  (trained,) = materials.trained
  frames = figures.model_chains(trained.model, _keys(materials.options["rows"]))
  return _drawn(materials, frames.strip(), _bound(trained))


def epochs(materials: Materials) -> Outcome:
  """Figure 3.2: the infusion chain towards one image, a row for each epoch kept."""
  (trained,), image = materials.trained, materials.options["image"]
  kept = kept_epochs(trained.folder)
  models = [(0, untrained(trained.model))]
  models += [(epoch, load(path)) for epoch, path in kept.items()]
  frames = figures.over_epochs(models, _keys(1), _targets(trained, [image]))
  return _drawn(materials, frames.strip(), _bound(trained))


def curves(materials: Materials) -> Outcome:
  """Figure 3.3: bounds on training and validation images, and Parzen, by epoch."""
  (trained,) = materials.trained
  rows = metrics_log.read(trained.folder / metrics_log.FILE)
  series = {
    name: metrics_log.series(rows, name).get(split, ((), ()))
    for name, split in (("bound", "validation"), ("parzen", "validation"))
  }
  told = {"bound": "lower bound", "parzen": "Parzen estimate"}
  numbers = [
    Number(
      f"{told[name]}, validation, best of all epochs",
      float(max(values)),
      protocol=f"epoch {int(at[int(np.argmax(values))])}",
    )
    for name, (at, values) in series.items()
    if len(values)
  ]
  return _drawn(materials, figures.training_curves(rows), numbers)


def samples(materials: Materials) -> Outcome:
  """Figure 3.5: means of the last transition; what is nearest to the last of a row."""
  panels, numbers = [], []
  for trained, note in zip(materials.trained, materials.notes, strict=True):
    picture, distance, length = _samples_of(trained, materials.options)
    panels.append(titled(picture, f"{trained.run.title}, {length} steps", [note]))
    numbers.append(
      Number(
        f"{trained.run.title}: distance to the nearest training image",
        distance,
        protocol=f"pixel L2, mean over {materials.options['rows']} samples",
      )
    )
  pairs = [panels[i : i + 2] for i in range(0, len(panels), 2)]
  lines = [tiles.join(pair, axis=1, gap=24) for pair in pairs]
  whole = tiles.join(lines, axis=0, gap=16)
  target = materials.target
  picture = titled(whole, f"{target.title}: {target.about}")
  return _outcome(materials, picture, numbers)


def _samples_of(trained: Trained, options: Options) -> tuple[Picture, float, int]:
  rows, columns = options["rows"], options["columns"]
  length = options["length"] * trained.model.network.num_steps
  images = trained.model.sample(jax.random.key(0), rows * columns, num_steps=length)
  images = images.reshape(rows, columns, *trained.model.image_shape)
  data = trained.dataset
  frames, found = figures.with_neighbors(
    Frames(images, [""] * columns), data.train, data.levels
  )
  picture = plots.strip(
    frames.images,
    frames.last,
    frames.labels,
    last_label="nearest",
    scale=_scale(images),
  )
  return picture, float(found.distance.mean()), length


def _scale(images: np.ndarray) -> int:
  """Tiles of about 64 pixels whatever the size of the images."""
  return max(1, round(64 / images.shape[-2]))


def inpainted(materials: Materials) -> Outcome:
  """Figure 3.6: test images, where their chains start, and several ends."""
  (trained,), options = materials.trained, materials.options
  originals = _targets(trained, range(options["images"]))
  known = inpainting.part("top", trained.model.image_shape)
  found = inpainting.complete(
    trained.model, jax.random.key(0), originals, known, options["restarts"]
  )
  picture = inpainting.panel(originals, found, trained.model.levels)
  spread = float(found.images.std(axis=1)[:, ~known].mean())
  number = Number(
    "variety of the completions: deviation of an unknown pixel over restarts",
    spread,
    protocol=f"{options['images']} images, {options['restarts']} restarts",
  )
  return _drawn(materials, picture, [*_bound(trained), number])


def rate_curves(materials: Materials) -> Outcome:
  """Figure A.1: validation bounds by epoch, one panel a T, one line a rate."""
  (table,) = materials.trained
  panels = tables.panels(table.rows)
  numbers = []
  for panel, rows in panels.items():
    order = tables.order(panel, rows)
    ours = next(
      (row.place.rate for row in rows if row.place.label == order.labels[0]), None
    )
    numbers.append(
      Number(
        f"{panel}: best rate",
        ours,
        published=overrides.published_best(rows[0].config),
        protocol=f"{order.by}, {len(order.labels)} rates",
        told=order.verdict or "nothing published",
      )
    )
  picture = result_files.figure(panels)
  return _drawn(materials, picture, numbers)


def schedules(materials: Materials) -> Outcome:
  """Figure A.2: infused and generated chains of two schedules."""
  epoch, count = materials.options["epoch"], materials.options["rows"]
  parts, numbers = [], []
  for trained in reversed(materials.trained):
    model = runs.at_epoch(trained, epoch)
    infused, generated = _both(model, trained, count)
    title = trained.run.title.partition("T = 15, ")[2] or trained.run.title
    title += f", after epoch {epoch}" if epoch else ""
    parts.append(titled(infused, f"{title}: infused chains"))
    parts.append(titled(generated, f"{title}: generated chains"))
    numbers += _bound(trained, epoch)
  return _drawn(materials, tiles.join(parts, axis=0, gap=12), numbers)


def both_chains(materials: Materials) -> Outcome:
  """Figures A.3 and A.4: infusion chains (a) above model chains (b)."""
  (trained,) = materials.trained
  infused, generated = _both(trained.model, trained, materials.options["rows"])
  parts = [
    titled(infused, "(a) infusion chains towards test images"),
    titled(generated, "(b) model chains"),
  ]
  return _drawn(materials, tiles.join(parts, axis=0, gap=12), _bound(trained))


def _both(model: Model, trained: Trained, count: int) -> tuple[Picture, Picture]:
  """Strips of infusion chains towards test images, and of model chains."""
  targets = _targets(trained, range(count))
  infused = figures.infusion_chains(model, _keys(count), targets)
  generated = figures.model_chains(model, _keys(count))
  return infused.strip(), generated.strip()


def _keys(count: int) -> jax.Array:
  return keys_of(jax.random.key(0), range(count))


def _targets(trained: Trained, numbers: Sequence[int]) -> np.ndarray:
  images = trained.dataset.test[np.asarray(numbers) % len(trained.dataset.test)]
  return np.asarray(pixels.scaled(images, trained.dataset.levels))


def _bound(trained: Trained, epoch: int = 0) -> list[Number]:
  """The validation bound of a model, so that no picture stands without a number."""
  about = trained.model.about
  bound, best = about.get("best_bound"), about.get("best_epoch")
  if epoch:
    rows = metrics_log.read(trained.folder / metrics_log.FILE)
    at, bounds = metrics_log.series(rows, "bound")["validation"]
    bound, best = max(
      (b, int(e)) for e, b in zip(at, bounds, strict=True) if e <= epoch
    )
  protocol = f"statistics of each mini-batch, after epoch {best}"
  name = f"{trained.run.title}: validation bound"
  return [Number(name, None if bound is None else float(bound), protocol=protocol)]


def _drawn(
  materials: Materials, picture: Picture, numbers: Sequence[Number]
) -> Outcome:
  return _outcome(materials, materials.titled(picture), numbers)


def _outcome(
  materials: Materials, picture: Picture, numbers: Sequence[Number]
) -> Outcome:
  name = f"{materials.target.name}.png"
  return Outcome(numbers, {name: picture}, {name: materials.target.about})


#: Layouts by name. To add one, write its function and its line here.
LAYOUTS: dict[str, Callable[[Materials], Outcome]] = {
  "likelihoods": table_recipes.likelihoods,
  "parzen": table_recipes.parzen,
  "score": table_recipes.score,
  "chains": chains,
  "epochs": epochs,
  "curves": curves,
  "samples": samples,
  "inpainting": inpainted,
  "rates": table_recipes.rates,
  "rate_curves": rate_curves,
  "schedules": schedules,
  "both_chains": both_chains,
}
