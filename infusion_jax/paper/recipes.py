"""How every table is measured and every figure drawn: one function a layout.

A layout maps `Materials` to an `Outcome`. What it measures is kept in the model's
own folder as it goes, so that an interrupted target goes on where it was.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from infusion_jax import evaluation, pixels
from infusion_jax.drawing import plots, tiles
from infusion_jax.drawing.tiles import Picture
from infusion_jax.evaluation import Parts, Protocol, Report, Session
from infusion_jax.metrics import extractors, inception
from infusion_jax.model import Model, keys_of, load, untrained
from infusion_jax.model import epochs as kept_epochs
from infusion_jax.paper import runs
from infusion_jax.paper.descriptions import Options, Target
from infusion_jax.paper.records import Number, Outcome
from infusion_jax.paper.runs import Table, Trained
from infusion_jax.storage import published_numbers
from infusion_jax.sweep import overrides, tables
from infusion_jax.training import metrics_log, signals
from infusion_jax.views import figures, inpainting
from infusion_jax.views.figures import Frames

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
#: Table A.1's bounds count as near when they are so close to the published ones.
_NEAR = 0.03


@dataclasses.dataclass(frozen=True, eq=False)
class Materials:
  """What a layout works with.

  Attributes:
    target: what is to be made.
    options: of the layout.
    trained: the target's models and sweeps, in its order.
    notes: what must stand on every picture, by run.
    inception: a file of Inception-v3's weights, or "".
    progress: whether to show progress bars on stderr.
    asked: whether to stop; looked at whenever a measurement has come further.
  """

  target: Target
  options: Options
  trained: Sequence[Trained | Table]
  notes: Sequence[str]
  inception: str = ""
  progress: bool = True
  asked: Callable[[], bool] = lambda: False

  def titled(self, picture: Picture, about: str = "") -> Picture:
    """A picture under a line of what it is, and lines of what to know of it."""
    return titled(
      picture, f"{self.target.title}: {about or self.target.about}", self.notes
    )


def titled(picture: Picture, title: str, notes: Sequence[str] = ()) -> Picture:
  """Puts a bold title and notes above a picture [H', W', 3], wrapped to its width."""
  size = tiles.text_size(picture.shape[1])
  # Small pictures are widened rather than their titles cut to slivers.
  room = max(picture.shape[1] - 2 * tiles.MARGIN, 30 * size)
  lines = [tiles.draw_text(tiles.wrap(title, 0.9 * room, size), size, True, 0.0)]
  lines += [
    tiles.draw_text(tiles.wrap(note, room, size), size, align=0.0) for note in notes
  ]
  head = tiles.add_margin(tiles.join(lines, axis=0, gap=2), 6, tiles.MARGIN)
  return tiles.join([head, picture], axis=0, gap=0)


def check(asked: Callable[[], bool]) -> None:
  """Raises `signals.Stopped` if asked to stop."""
  if asked():
    raise signals.Stopped("stopped; what was measured is kept")


@dataclasses.dataclass
class _Session(Session):
  """A session that ends, with all its finished pieces kept, when asked to."""

  asked: Callable[[], bool] = lambda: False

  def bar(self, total: int, what: str, unit: str = "image") -> tqdm.tqdm:
    bar = super().bar(total, what, unit)
    update = bar.update

    def update_or_stop(n: float = 1) -> bool | None:
      check(self.asked)
      return update(n)

    bar.update = update_or_stop
    return bar


def _measured(
  materials: Materials, trained: Trained, metric: str, protocol: Protocol
) -> list[dict[str, Any]]:
  """What a metric finds, measured once for every model and protocol."""
  identity = evaluation.identity(trained.model)
  report = Report(trained.folder, identity)
  found = report.finished(metric, protocol)
  if found:
    return found
  check(materials.asked)
  session = _Session(
    trained.model,
    trained.dataset,
    protocol,
    Parts(trained.folder / evaluation.PARTS_FILE, identity),
    materials.progress,
    materials.asked,
  )
  return report.add(metric, protocol, evaluation.METRICS[metric](session))


def likelihoods(materials: Materials) -> Outcome:
  """Table 3.1: three estimates on test and training images, then what goes beyond."""
  (trained,), options = materials.trained, materials.options
  numbers = []
  for column, split in enumerate(("test", "train")):
    protocol = Protocol(split=split, **options[split])
    for metric, name in _OURS.items():
      rows = _measured(materials, trained, metric, protocol)
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
      " error of the mean over images.",
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
    for row in _measured(materials, trained, metric, protocol):
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
  table: str, ours: Sequence[str] | Any, column: int | None, suffix: str = ""
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
  rows = _measured(materials, trained, "parzen", protocol)
  ours = [
    _number(row, "Infusion", published=value, published_error=error) for row in rows
  ]
  return Outcome([*ours, *_peers(table, ("Infusion",), None)])


def score(materials: Materials) -> Outcome:
  """Table 3.2: the Inception score of samples, and of real images."""
  (trained,), options = materials.trained, materials.options
  table = "table_3_2_cifar10_inception_score"
  extractor = inception.load(materials.inception)
  images = trained.model.sample(jax.random.key(0), options["samples"])
  real = pixels.scaled(trained.dataset.train[: options["real"]], trained.dataset.levels)
  found = extractors.score(extractor, images, np.asarray(real))
  value, error = published_numbers.numbers(table, "Infusion")
  names = extractors.NAMES["inception"]
  ours = Number(
    "Infusion",
    found[names.inception_score],
    error=found[f"{names.inception_score}_standard_error"],
    published=value,
    published_error=error,
    protocol=f"{len(images):,} samples, 10 splits",
  )
  more = [
    Number(title, found[name], protocol=f"{len(images):,} samples, {len(real):,} real")
    for title, name in (
      ("Infusion, FID", names.frechet),
      ("Infusion, KID", names.kernel),
    )
  ]
  return Outcome([ours, *more, *_peers(table, ("Infusion",), None)])


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


def rates(materials: Materials) -> Outcome:
  """Table A.1: bounds and sample means, sub-table by sub-table."""
  (table,) = materials.trained
  panels = tables.panels(table.rows)
  pictures = {}
  for panel, rows in panels.items():
    picture = tables.sample_rows(rows)
    if picture is not None:
      pictures[f"{_slug(panel)}.png"] = materials.titled(picture, panel)
  protocol = tables.describe(table.protocol)
  remarks = [
    f"Protocol: {protocol}.",
    *(f"{tables.order(panel, rows)}." for panel, rows in panels.items()),
    published_numbers.numbers("table_a1_mnist_lower_bound_test", "note"),
  ]
  numbers = [*_published_rates(table), *_other_rates(table)]
  captions = {_slug(panel) + ".png": panel for panel in panels}
  return Outcome(numbers, pictures, captions, remarks)


def _published_rates(table: Table) -> list[Number]:
  """A line for every rate of the published table, whether it was trained or not."""
  found = {
    (row.config.chain.num_steps, row.place.rate): row
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
      row = found.get((int(steps.removeprefix("T=")), float(rate)))
      name = f"{steps.replace('=', ' = ')}, rate {float(rate):g}"
      numbers.append(_rate(name, row, published=bound, tolerance=_NEAR))
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
  picture = tables.figure(panels)
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


def _slug(text: str) -> str:
  return "_".join("".join(c if c.isalnum() or c in ".-" else " " for c in text).split())


#: Layouts by name. To add one, write its function and its line here.
LAYOUTS: dict[str, Callable[[Materials], Outcome]] = {
  "likelihoods": likelihoods,
  "parzen": parzen,
  "score": score,
  "chains": chains,
  "epochs": epochs,
  "curves": curves,
  "samples": samples,
  "inpainting": inpainted,
  "rates": rates,
  "rate_curves": rate_curves,
  "schedules": schedules,
  "both_chains": both_chains,
}
