"""Numbers of a trained model, each with its protocol, kept as they come.

A metric is a function from a `Session` to `Measurement`s. What a metric has
finished is written at once, so that an interrupted evaluation goes on where it
was: whole measurements to `evaluation.json`, pieces of long ones to a file
beside it.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from infusion_jax import chain, files, likelihood, pixels, provenance, random, sampling
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.likelihood import Estimates, Summary
from infusion_jax.metrics import parzen
from infusion_jax.model import Model
from infusion_jax.training import epoch
from infusion_jax.training.state import make_recipe

Array = jax.Array
PyTree = Any

FILE = "evaluation.json"
PARTS_FILE = "evaluation_parts.jsonl"

_SAMPLE_BATCH = 500

# Linear schedules that are tried as the proposal's.
_ALPHA0 = (0.0, 0.005, 0.01, 0.02, 0.05)
_OMEGA = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How to measure.

  Attributes:
    split: "train", "validation" or "test".
    num_images: of the split, from its beginning; 0: all.
    num_chains: k, infusion chains an image.
    repetitions: independent repetitions, for the deviation over them.
    seed: decides all noise.
    search_images: validation images that choices are made on.
    search_chains: chains an image in searches.
    num_samples: of the model, for the Parzen estimate.
    sigma: of the Parzen kernel; 0: chosen on validation.
    num_steps: length of the chain that samples are drawn with; 0: as trained.
    temperatures: of annealed importance sampling.
    ais_images: images that are annealed.
    ais_chains: annealed chains an image.
    sandwich: also bound the annealing error on simulated images.
  """

  split: str = "test"
  num_images: int = 1000
  num_chains: int = 50
  repetitions: int = 1
  seed: int = 0
  search_images: int = 64
  search_chains: int = 64
  num_samples: int = 10_000
  sigma: float = parzen.SIGMA
  num_steps: int = 0
  temperatures: int = 1000
  ais_images: int = 16
  ais_chains: int = 4
  sandwich: bool = False

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      least = 0 if field.name in _MAY_BE_ZERO else 1
      if field.name != "split" and not value >= least:
        raise UserError(f"{field.name} is {value}; it must be at least {least}")


_MAY_BE_ZERO = {"num_images", "seed", "sigma", "num_steps", "sandwich"}


@dataclasses.dataclass(frozen=True)
class Measurement:
  """One number and how it came about.

  Attributes:
    name: of the metric.
    value: mean over the images (and repetitions).
    standard_error: of the mean over images, or None.
    deviation: of the mean over repetitions, or None.
    unit: of the three.
    protocol: what was measured, in words and numbers.
    details: what else was found on the way.
  """

  name: str
  value: float
  standard_error: float | None
  deviation: float | None
  unit: str
  protocol: dict[str, Any]
  details: dict[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, name: str, summary: Summary, **rest: Any) -> "Measurement":
    """A measurement in nats per image from a summary."""
    return cls(name, *summary, unit="nats per image", **rest)


@dataclasses.dataclass
class Session:
  """What metrics work with.

  Attributes:
    model: with statistics of the whole training set.
    dataset: its data.
    protocol: how to measure.
    parts: where pieces are kept.
    progress: whether to show progress bars on stderr.
  """

  model: Model
  dataset: Dataset
  protocol: Protocol
  parts: "Parts"
  progress: bool = True

  @functools.cached_property
  def images(self) -> np.ndarray:
    """The images to measure on, uint8 [N, H, W, C]."""
    images = self.dataset.split(self.protocol.split)
    return images[: self.protocol.num_images or len(images)]

  @property
  def search_images(self) -> np.ndarray:
    """The validation images that choices are made on."""
    return self.dataset.validation[: self.protocol.search_images]

  @functools.cached_property
  def operator(self) -> tuple[chain.Transition, PyTree]:
    """The transition with fixed statistics, and its steps."""
    network = self.model.network
    return sampling.operator(network, self.model.weights, network.num_steps)

  @property
  def infusion(self) -> chain.Infusion:
    """Prior, rates of training, target variance."""
    return self.model.weights.infusion

  def key(self, name: str) -> Array:
    """The stream called `name` of the protocol's seed."""
    return random.named(jax.random.key(self.protocol.seed), name)

  def bar(self, total: int, what: str, unit: str = "image") -> tqdm.tqdm:
    """A progress bar."""
    return tqdm.tqdm(total=total, desc=what, unit=unit, disable=not self.progress)

  def described(self, **more: Any) -> dict[str, Any]:
    """The part of a protocol that all metrics share, and more."""
    return {
      "data": self.dataset.name,
      "split": self.protocol.split,
      "num_images": len(self.images),
      "seed": self.protocol.seed,
      **more,
    }


class Parts:
  """Pieces of unfinished measurements: one JSON object a line."""

  def __init__(self, path: pathlib.Path | None, identity: str = ""):
    """Reads what is there; with no path, nothing is kept.

    Args:
      path: the file.
      identity: what the pieces depend on besides their own key; pieces of
        another identity are not found.
    """
    self._path, self._identity = path, identity
    self._found: dict[str, list[dict[str, Any]]] = {}
    for row in _json_lines(path):
      self._found.setdefault(row.pop("key"), []).append(row)

  def key(self, **facts: Any) -> str:
    """Names a measurement by all that its pieces depend on."""
    text = json.dumps([self._identity, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def get(self, key: str) -> list[dict[str, Any]]:
    """The pieces kept under a key."""
    return self._found.get(key, [])

  def add(self, key: str, row: Mapping[str, Any]) -> None:
    """Keeps a piece."""
    self._found.setdefault(key, []).append(dict(row))
    if self._path:
      # On a line of its own, also after one that a kill tore.
      with self._path.open("a") as stream:
        stream.write("\n" + json.dumps({"key": key, **row}))


def _json_lines(path: pathlib.Path | None) -> Iterable[dict[str, Any]]:
  """The rows of a file; a line torn by a kill is left out."""
  if path is None or not path.exists():
    return
  for line in path.read_text().splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    if isinstance(row, dict) and "key" in row:
      yield row


def with_population_statistics(model: Model, dataset: Dataset, seed: int = 0) -> Model:
  """The model, with batch statistics of the whole training set if it has none yet.

  A finished run has them in its checkpoint; one still in training does not.
  """
  if model.about.get("statistics") == "population":
    return model
  recipe = make_recipe(model.config, dataset)
  weights = model.weights
  statistics = epoch.compiled(recipe).population_statistics(
    weights.parameters,
    random.named(jax.random.key(seed), "population"),
    weights.infusion,
    jnp.asarray(dataset.train),
  )
  about = {**model.about, "statistics": "population"}
  return dataclasses.replace(
    model, weights=weights._replace(statistics=statistics), about=about
  )


def estimates(session: Session, rates: Array, name: str) -> Estimates:
  """Bound and importance estimates of the images, [R, N], resumed if begun."""
  protocol, parts = session.protocol, session.parts
  images = session.images
  key = parts.key(
    name=name,
    rates=np.asarray(rates).tolist(),
    chains=protocol.num_chains,
    seed=protocol.seed,
    split=protocol.split,
    images=len(images),
  )
  done = {(row["repetition"], row["first"]): row for row in parts.get(key)}
  transition, steps = session.operator
  with session.bar(protocol.repetitions * len(images), name) as bar:
    bar.update(sum(len(row["bound"]) for row in done.values()))
    for repetition, first, found in likelihood.estimate_batches(
      session.key("chains"),
      transition,
      steps,
      session.infusion._replace(rates=jnp.asarray(rates)),
      images,
      levels=session.dataset.levels,
      num_chains=protocol.num_chains,
      repetitions=protocol.repetitions,
      skip=lambda *place: place in done,
    ):
      row = {"repetition": repetition, "first": first, **_listed(found)}
      parts.add(key, row)
      done[repetition, first] = row
      bar.update(len(found.bound))
  return _joined(done, protocol.repetitions)


def _listed(found: Estimates) -> dict[str, list[float]]:
  terms = found.terms
  return {
    "bound": found.bound.tolist(),
    "importance": found.importance.tolist(),
    "ess": found.ess.tolist(),
    "prior": terms.prior.tolist(),
    "per_step": terms.per_step.sum(0).tolist(),
    "reconstruction": terms.reconstruction.tolist(),
  }


def _joined(rows: Mapping[tuple[int, int], dict], repetitions: int) -> dict[str, Any]:
  """[R, N] arrays by name from the pieces, in the order of the images."""
  names = ("bound", "importance", "ess", "prior", "per_step", "reconstruction")
  ordered = [rows[place] for place in sorted(rows)]
  return {
    name: np.array(
      [
        [value for row in ordered if row["repetition"] == r for value in row[name]]
        for r in range(repetitions)
      ]
    )
    for name in names
  }


def bound(session: Session) -> list[Measurement]:
  """The lower bound under the rates of training (eq. 3.3.3), and its parts."""
  found = estimates(session, session.infusion.rates, "chains")
  parts = {
    name: float(found[name].mean()) for name in ("prior", "per_step", "reconstruction")
  }
  return [
    Measurement.of(
      "bound",
      likelihood.summarize(found["bound"]),
      protocol=_chains_protocol(session),
      details={**parts, **_bits(session, found["bound"])},
    )
  ]


def importance(session: Session) -> list[Measurement]:
  """The importance-sampling estimate under the rates of training (eq. 3.3.2)."""
  found = estimates(session, session.infusion.rates, "chains")
  return [_importance("importance", session, found)]


def tuned_importance(session: Session) -> list[Measurement]:
  """The same with the proposal's rates chosen on validation."""
  transition, steps = session.operator
  num_steps = session.model.network.num_steps
  rates = likelihood.proposal_grid(
    num_steps,
    [0.0, 0.005, 0.01, 0.02, 0.05],
    [0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05],
  )
  trained = np.asarray(session.infusion.rates)[None]
  with session.bar(len(rates) + 1, "proposal", "schedule") as bar:
    table = likelihood.tune_proposal(
      session.key("proposal"),
      transition,
      steps,
      session.infusion,
      session.search_images,
      np.concatenate([trained, rates]),
      levels=session.dataset.levels,
      num_chains=session.protocol.search_chains,
      progress=lambda done, total: bar.update(done - bar.n),
    )
  found = estimates(session, table.best_rates, "tuned chains")
  search = {
    "images": len(session.search_images),
    "chains": session.protocol.search_chains,
    "rates": table.rates.tolist(),
    "importance": table.importance.tolist(),
    "ess": table.ess.tolist(),
    "best": table.best_rates.tolist(),
  }
  rows = [_importance("importance_tuned", session, found, table.best_rates)]
  rows[0].details["search"] = search
  return rows


def _importance(
  name: str, session: Session, found: Mapping[str, np.ndarray], rates: Any = None
) -> Measurement:
  details = {
    "median_ess": float(np.median(found["ess"])),
    **_bits(session, found["importance"]),
  }
  return Measurement.of(
    name,
    likelihood.summarize(found["importance"]),
    protocol=_chains_protocol(session, rates),
    details=details,
  )


def _chains_protocol(session: Session, rates: Any = None) -> dict[str, Any]:
  rates = session.infusion.rates if rates is None else rates
  return session.described(
    num_chains=session.protocol.num_chains,
    repetitions=session.protocol.repetitions,
    proposal_rates=[round(float(rate), 6) for rate in rates],
    dequantization=f"uniform, 1/{session.dataset.levels}",
    batch_statistics=session.model.about.get("statistics"),
  )


def _bits(session: Session, nats: np.ndarray) -> dict[str, Any]:
  bits = likelihood.bits_per_dimension(
    float(np.mean(nats)), session.model.image_shape, session.dataset.levels
  )
  return {"bits_per_dimension": bits}


def sample_means(session: Session, count: int) -> np.ndarray:
  """Means of the last transition of `count` model chains, [count, H, W, C]."""
  num_steps = session.protocol.num_steps or session.model.network.num_steps
  keys = jax.random.split(session.key("samples"), count)
  parts = []
  with session.bar(count, "samples") as bar:
    for first in range(0, count, _SAMPLE_BATCH):
      rows = np.minimum(np.arange(first, first + _SAMPLE_BATCH), count - 1)
      prediction = _predict(
        session.model.network, session.model.weights, keys[rows], num_steps
      )
      parts.append(np.asarray(prediction.mean))
      bar.update(min(_SAMPLE_BATCH, count - first))
  return np.concatenate(parts)[:count]


_predict = jax.jit(sampling.predict, static_argnums=(0, 3))


def parzen_window(session: Session) -> list[Measurement]:
  """The Parzen estimate of figure 3.4: clean test images, means of samples."""
  protocol, levels = session.protocol, session.dataset.levels
  means = sample_means(session, protocol.num_samples)
  sigma, details = protocol.sigma, {}
  if not sigma:
    clean = np.asarray(pixels.scaled(jnp.asarray(session.dataset.validation), levels))
    search = parzen.choose_sigma(clean, means)
    sigma = search.best
    details = {
      "sigmas": search.sigmas.tolist(),
      "validation": search.log_likelihood.tolist(),
    }
  # The published protocol uses the whole split, whatever the other metrics do.
  images = session.dataset.split(protocol.split)
  clean = np.asarray(pixels.scaled(jnp.asarray(images), levels))
  return [
    Measurement.of(
      "parzen",
      parzen.evaluate(clean, means, sigma),
      protocol={
        **session.described(num_samples=protocol.num_samples, sigma=sigma),
        "num_images": len(images),
        "chain_steps": protocol.num_steps or session.model.network.num_steps,
        "chosen_on_validation": not protocol.sigma,
      },
      details=details,
    )
  ]


#: Metrics by name. To add one, write its function and its line here.
METRICS: dict[str, Callable[[Session], list[Measurement]]] = {
  "bound": bound,
  "importance": importance,
  "importance_tuned": tuned_importance,
  "parzen": parzen_window,
}


def check_metrics(names: Iterable[str]) -> list[str]:
  """The names, stripped; UserError for one that is no metric, or for none."""
  names = [name.strip() for name in names if name.strip()]
  for name in names:
    if name not in METRICS:
      raise UserError(f"metric is {name!r}; allowed are {', '.join(METRICS)}")
  if not names:
    raise UserError(f"metrics is empty; allowed are {', '.join(METRICS)}")
  return names


class Report:
  """`evaluation.json`: what has been measured, kept measurement by measurement."""

  def __init__(self, folder: pathlib.Path, identity: str):
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
        self.metrics = dict(json.loads(self.path.read_text())["metrics"])
      except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
          f"{self.path} is not an evaluation; move it away to write a new one"
        ) from error

  def finished(self, name: str, protocol: Protocol) -> list[dict[str, Any]]:
    """The measurements a metric has made under this protocol and checkpoint."""
    return [
      row
      for row in self.metrics.values()
      if row.get("asked") == _asked(name, protocol)
      and row.get("checkpoint") == self._identity
    ]

  def add(
    self, metric: str, protocol: Protocol, rows: Iterable[Measurement]
  ) -> list[dict[str, Any]]:
    """Writes measurements; those of other splits than test carry its name."""
    added = []
    for row in rows:
      prefix = "" if protocol.split == "test" else f"{protocol.split}/"
      entry = dataclasses.asdict(row) | {
        "checkpoint": self._identity,
        "asked": _asked(metric, protocol),
        "provenance": provenance.describe(),
      }
      entry["name"] = prefix + row.name
      self.metrics[entry["name"]] = entry
      added.append(entry)
    files.write_json(self.path, {"format_version": 1, "metrics": self.metrics})
    return added


def _asked(metric: str, protocol: Protocol) -> dict[str, Any]:
  return {"metric": metric, **dataclasses.asdict(protocol)}


def identity(model: Model) -> str:
  """Tells a model's weights from all others."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves((model.weights.parameters, model.weights.statistics)):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()[:16]


def published(dataset: str, metric: str) -> tuple[float, float] | None:
  """The thesis's value and error of a metric, where it has one."""
  place = _PUBLISHED.get((dataset, metric))
  if place is None:
    return None
  table, row, column = place
  values = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())
  value, error = (
    values[table][row][column] if column is not None else values[table][row]
  )
  return float(value), float(error)


_TABLE_3_1, _FIGURE_3_4 = "table_3_1_mnist_log_likelihood", "figure_3_4_mnist_parzen"
_PUBLISHED: dict[tuple[str, str], tuple[str, str, int | None]] = {
  ("mnist", "bound"): (_TABLE_3_1, "Infusion (lower bound)", 0),
  ("mnist", "train/bound"): (_TABLE_3_1, "Infusion (lower bound)", 1),
  ("mnist", "importance"): (_TABLE_3_1, "Infusion (IS)", 0),
  ("mnist", "train/importance"): (_TABLE_3_1, "Infusion (IS)", 1),
  ("mnist", "isotropic"): (_TABLE_3_1, "Infusion + isotropic (IS)", 0),
  ("mnist", "train/isotropic"): (_TABLE_3_1, "Infusion + isotropic (IS)", 1),
  ("mnist", "parzen"): (_FIGURE_3_4, "Infusion", None),
}
