"""What metrics work with: model, data, protocol, and pieces of work already done."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from infusion_jax import chain, random, sampling
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.likelihood import Summary
from infusion_jax.metrics import parzen
from infusion_jax.model import Model
from infusion_jax.training import programs
from infusion_jax.training.state import make_recipe

Array = jax.Array
PyTree = Any

PARTS_FILE = "evaluation_parts.jsonl"


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
    score_samples: of the model, for the Inception and the classifier score.
    splits: parts that these samples are scored in.
    inception: weights of Inception-v3 (experiments.convert_inception makes them).
    classifier: a classifier (experiments.train_classifier makes it).
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
  score_samples: int = 50_000
  splits: int = 10
  inception: str = ""
  classifier: str = ""

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      least = 0 if field.name in _MAY_BE_ZERO else 1
      if not isinstance(value, str) and not value >= least:
        raise UserError(f"{field.name} is {value}; it must be at least {least}")
      if not isinstance(value, str) and not value <= _MOST:
        raise UserError(f"{field.name} is {value}; it must be at most {_MOST}")
    if self.score_samples < max(2, self.splits):
      raise UserError(
        f"score_samples is {self.score_samples}; it must be at least"
        f" {max(2, self.splits)}, of which splits = {self.splits} can be made"
      )

  def networks(self) -> dict[str, str]:
    """The files of the networks that are given to score with, by metric."""
    named = {"inception": self.inception, "classifier": self.classifier}
    return {name: path for name, path in named.items() if path}


# A key's seed has 32 bits, and nothing else comes near.
_MOST = 2**32 - 1
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
  def chain_steps(self) -> int:
    """Length of the chain that samples are drawn with."""
    return self.protocol.num_steps or self.model.network.num_steps

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

  def file(self, name: str) -> pathlib.Path | None:
    """Where a piece that is no row may be kept, if anything is."""
    return self._path.with_name(f"{self._path.stem}_{name}") if self._path else None


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
  statistics = programs.compiled(recipe).population_statistics(
    weights.parameters,
    random.named(jax.random.key(seed), "population"),
    weights.infusion,
    jnp.asarray(dataset.train),
  )
  about = {**model.about, "statistics": "population"}
  return dataclasses.replace(
    model, weights=weights._replace(statistics=statistics), about=about
  )
