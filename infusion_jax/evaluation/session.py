"""What metrics work with: model, data, protocol, and pieces of work already done."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import chain, pixels, random, sampling
from infusion_jax.chain import MarkovChain
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.evaluation.protocol import Measurement, Protocol
from infusion_jax.evaluation.results import Report, identity
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import calibration
from infusion_jax.model import Model, PeerModel
from infusion_jax.networks import user_code
from infusion_jax.states.multimodal import Multimodal
from infusion_jax.storage import files
from infusion_jax.terminal.counting import counter
from infusion_jax.training import programs, signals
from infusion_jax.training.state import make_recipe

Array = jax.Array
PyTree = Any
Metric = Callable[["Session"], list[Measurement]]

PARTS_FILE = "evaluation_parts.jsonl"

#: Metrics by name; `metric` adds one.
METRICS: dict[str, Metric] = {}


def metric(name: str) -> Callable[[Metric], Metric]:
  """Makes a function from a session to measurements the metric `name`."""

  def add(function: Metric) -> Metric:
    METRICS[name] = function
    return function

  return add


def stop_if(asked: Callable[[], bool]) -> None:
  """Raises `signals.Stopped` if asked to stop while something is measured."""
  if asked():
    raise signals.Stopped("stopped; what was measured is kept")


@dataclasses.dataclass
class Session:
  """What metrics work with, and what measures them.

  Attributes:
    model: with statistics of the whole training set.
    dataset: its data.
    protocol: how to measure.
    folder: where measurements, and pieces of unfinished ones, are kept.
    progress: whether to show progress bars on stderr.
    asked: whether to stop; looked at whenever a measurement has come further.
  """

  model: Model
  dataset: Dataset
  protocol: Protocol
  folder: pathlib.Path
  progress: bool = True
  asked: Callable[[], bool] = lambda: False

  def __post_init__(self) -> None:
    if isinstance(self.model, PeerModel):
      raise UserError(self.model.no_chain)
    self.identity = identity(self.model)
    self.report = Report(self.folder, self.identity)
    self.parts = Parts(self.folder / PARTS_FILE, self.identity)

  def measure(self, name: str) -> list[dict[str, Any]]:
    """The measurements of a metric, as they stand in `evaluation.json`.

    Those that are there under this protocol and checkpoint are not made again, and
    one that was interrupted goes on from its last piece.

    Raises:
      signals.Stopped: the session was asked to stop; what was measured is kept.
    """
    question = self._question(name)
    if found := self.report.finished(name, self.protocol, question):
      return found
    stop_if(self.asked)
    with jax.default_matmul_precision(self.protocol.precision):
      rows = METRICS[name](self)
    return self.report.add(name, self.protocol, rows, question)

  def _question(self, name: str) -> dict[str, str]:
    """What a metric's answer depends on beside the model and the protocol."""
    code = user_code.digest_of(METRICS[name])
    question = {"code": code} if code else {}
    # Earlier versions measured these without a label, whatever the model.
    if self.model.num_classes and (name == "exact" or name.startswith("ais")):
      question["labels"] = "as the protocol says"
    return question

  @contextlib.contextmanager
  def bar(
    self, total: int, what: str, unit: str = "image"
  ) -> Iterator[Callable[[int], None]]:
    """Shows progress; yields a function to be told how much is done in all.

    To be called once that much is kept: the function stops when asked to.
    """
    with counter(total, what, unit, shown=self.progress) as bar:

      def reached(done: int) -> None:
        bar.update(done - bar.n)
        stop_if(self.asked)

      yield reached

  @functools.cached_property
  def images(self) -> np.ndarray:
    """The images to measure on, uint8 [N, H, W, C]."""
    return self.chosen(self.protocol.num_images)

  def chosen(self, count: int) -> np.ndarray:
    """All images of the split, or a random subset of `count`, [N, H, W, C].

    The seed orders the split at random, and a subset is the beginning of that order:
    a small one lies within a large one, and is the same for every model and metric.
    """
    return self._chosen(self.dataset.split(self.protocol.split), count)

  def labels(self, count: int) -> np.ndarray | None:
    """The labels of `chosen(count)`, [N]; None if the model has no classes."""
    labels = self.dataset.labels_of(self.protocol.split)
    return None if labels is None else self._chosen(labels, count)

  def _chosen(self, whole: np.ndarray, count: int) -> np.ndarray:
    if not 0 < count < len(whole):
      return whole
    order = jax.random.permutation(self.key("images"), len(whole))
    return whole[np.asarray(order[:count])]

  def told(self, count: int) -> np.ndarray | None:
    """What `chosen(count)` are given as labels, [N]; None: p(x) is measured."""
    return self._told(self.labels(count))

  def _told(self, own: np.ndarray | None) -> np.ndarray | None:
    asked = self.protocol.label
    if own is None or asked == "none":
      return None
    return own if asked == "own" else np.full_like(own, int(asked))

  @property
  def described_label(self) -> dict[str, str]:
    """The same for a protocol; empty if the model has no classes."""
    words = {"own": "each image's own", "none": "none"}
    asked = self.protocol.label
    return {"label": words.get(asked, asked)} if self.model.num_classes else {}

  @property
  def search_images(self) -> np.ndarray:
    """The validation images that choices are made on."""
    return self.dataset.validation[: self.protocol.search_images]

  @property
  def search_labels(self) -> np.ndarray | None:
    """What they are given as labels, see `told`."""
    labels = self._told(self.dataset.labels_of("validation"))
    return None if labels is None else labels[: self.protocol.search_images]

  @functools.cached_property
  def markov(self) -> MarkovChain:
    """The model's chain, with fixed statistics and the rates of training."""
    markov = sampling.markov_chain(self.model.network, self.model.weights)
    if floor := self.protocol.output_floor:
      self.check_gaussian("output_floor")
      trained = self.model.config.chain.variance_floor
      markov = calibration.with_output_floor(markov, trained, floor)
    if share := self.protocol.outliers:
      self.check_gaussian("outliers", or_multimodal=True)
      markov = dataclasses.replace(markov, outliers=share)
    if not self.protocol.calibrate:
      return markov
    self.check_gaussian("calibrate")
    factors = calibration.fit_variances(
      self.key("calibrate"),
      markov,
      self.dataset.train[: self.protocol.calibrate],
      levels=self.dataset.levels,
    )
    return calibration.scale_variances(markov, factors)

  @property
  def dequantization(self) -> str:
    """What noise targets have, for a protocol."""
    levels = self.dataset.levels
    return "none: bits" if levels == pixels.BITS else f"uniform, 1/{levels}"

  def check_gaussian(self, name: str, *, or_multimodal: bool = False) -> None:
    """Raises UserError where a metric of Gaussian states meets others.

    Args:
      name: of the metric.
      or_multimodal: mixtures of Gaussians (`states.multimodal`) will do, too.
    """
    kinds = (Gaussian, Multimodal) if or_multimodal else Gaussian
    if not issubclass(self.model.network.distribution, kinds):
      config = self.model.config
      raise UserError(
        f"metric {name!r} needs Gaussian states{'' if or_multimodal else ', one mode'};"
        f" the model in {self.model.path} has chain.states = {config.chain.states!r}"
        f" and model.latents = {config.model.latents}"
      )

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

  def described(self, images: np.ndarray, **more: Any) -> dict[str, Any]:
    """The part of a protocol that all metrics on `images` share, and more."""
    whole = len(images) == len(self.dataset.split(self.protocol.split))
    return {
      "data": self.dataset.name,
      "split": self.protocol.split,
      "num_images": len(images),
      "choice": "all images" if whole else "random subset",
      "seed": self.protocol.seed,
      "precision": self.protocol.precision,
      **self._calibrated(),
      **more,
    }

  def part_key(self, name: str, images: np.ndarray, **facts: Any) -> str:
    """Names a measurement by all that its pieces depend on, the images among it."""
    protocol = self.protocol
    return self.parts.key(
      name=name,
      images=hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest(),
      levels=self.dataset.levels,
      seed=protocol.seed,
      precision=protocol.precision,
      **self._calibrated(),
      **facts,
    )

  def _calibrated(self) -> dict[str, float]:
    """What a protocol says of variances that are not as trained."""
    asked = self.protocol
    said = {
      "variances_fitted_to_images": asked.calibrate,
      "output_floor": asked.output_floor,
      "outliers": asked.outliers,
    }
    return {name: value for name, value in said.items() if value}


class Parts:
  """Pieces of unfinished measurements: one JSON object a line."""

  def __init__(self, path: pathlib.Path, identity: str = "") -> None:
    """Reads what is there.

    Args:
      path: the file.
      identity: what the pieces depend on besides their own key; pieces of
        another identity are not found.
    """
    self._path, self._identity = path, identity
    self._found: dict[str, list[dict[str, Any]]] = {}
    for row in files.read_json_lines(path) if path.exists() else ():
      self._found.setdefault(row.pop("key", ""), []).append(row)

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
    files.append_json(self._path, {"key": key, **row})

  def file(self, name: str) -> pathlib.Path:
    """Where a piece that is no row may be kept."""
    return self._path.with_name(f"{self._path.stem}_{name}")


def _on_device(labels: np.ndarray | None) -> Array | None:
  return None if labels is None else jnp.asarray(labels)


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
    _on_device(dataset.labels_of("train")),
  )
  about = {**model.about, "statistics": "population"}
  return dataclasses.replace(
    model, weights=weights._replace(statistics=statistics), about=about
  )
