"""A small classifier of the data set at hand, for the classifier score.

The formula of the Inception score needs predictions of some classifier. Where
Inception-v3 makes no sense (digits, faces in grey) or is not at hand, a small
network trained on the data set's own classes gives the *classifier score*, and
features for distances. Its numbers compare with numbers of the same classifier
file only, and never with published ones.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from infusion_jax import pixels, random
from infusion_jax.errors import UserError
from infusion_jax.metrics.extractors import (
  Extractor,
  ImageShape,
  Predictions,
  in_batches,
)
from infusion_jax.networks.layers import Conv, default_lowering
from infusion_jax.storage import files
from infusion_jax.terminal.counting import counter

Array = jax.Array
PyTree = Any

_BATCH = 250
_GROUPS = 8
_ABOUT = "about"


class ConvClassifier(nn.Module):
  """Convolutions that halve the image at each level, a mean, two dense layers.

  Attributes:
    classes: K.
    channels: feature maps of the levels, the finest first; multiples of 8.
    features: F, units of the layer before the last.
    lowering: one of `layers.LOWERINGS`.
  """

  classes: int
  channels: Sequence[int] = (32, 64, 128)
  features: int = 128
  lowering: str = "native"

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Array]:
    """Maps [N, H, W, C] in [0, 1] to features [N, F] and logits [N, K]."""
    x = 2 * x - 1
    for channels in self.channels:
      for stride in (1, 2):
        x = Conv(channels, stride=stride, use_bias=False, lowering=self.lowering)(x)
        x = nn.relu(nn.GroupNorm(_GROUPS)(x))
    features = nn.relu(nn.Dense(self.features)(x.mean((1, 2))))
    return features, nn.Dense(self.classes)(features)


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a classifier is trained.

  Attributes:
    channels: see `ConvClassifier`.
    epochs: passes over the training images.
    batch_size: images per step.
    learning_rate: Adam's at the start; it falls to 0 along half a cosine.
    seed: decides initial weights, order and noise.
  """

  channels: tuple[int, ...] = (32, 64, 128)
  epochs: int = 10
  batch_size: int = 128
  learning_rate: float = 2e-3
  seed: int = 0

  def __post_init__(self) -> None:
    if not self.channels or any(c < 1 or c % _GROUPS for c in self.channels):
      raise UserError(
        f"channels is {self.channels}; allowed are multiples of {_GROUPS}"
      )
    for name in ("epochs", "batch_size"):
      if getattr(self, name) < 1:
        raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
  """A trained classifier.

  Attributes:
    parameters: of the network.
    image_shape: (H, W, C) of the images it takes.
    classes: how many it knows.
    channels: see `ConvClassifier`.
    about: what its maker wrote down: data set, accuracy.
  """

  parameters: PyTree
  image_shape: tuple[int, int, int]
  classes: int
  channels: tuple[int, ...]
  about: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def module(self) -> ConvClassifier:
    """The network."""
    return ConvClassifier(self.classes, self.channels, lowering=default_lowering())

  @property
  def extractor(self) -> Extractor:
    """This network to score with."""
    about = {"network": "classifier", **self.about}
    return Extractor("classifier", self.predict, about, self.check)

  def check(self, image_shape: ImageShape) -> None:
    """Raises UserError for images of another shape than it was trained on."""
    if image_shape != self.image_shape:
      raise UserError(
        f"images have shape {image_shape}; this classifier takes {self.image_shape}"
      )

  def predict(self, images: np.ndarray) -> Predictions:
    """Features [N, 128] and probabilities [N, K] of images [N, H, W, C] in [0, 1].

    Raises:
      UserError: the images are of another shape.
    """
    self.check(images.shape[1:])
    function = functools.partial(_predict, self.module, self.parameters)
    return in_batches(function, images, _BATCH)

  def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of images [N, H, W, C] in [0, 1] that it classifies rightly."""
    return float((self.predict(images).probabilities.argmax(1) == labels).mean())


def train(
  images: np.ndarray,
  labels: np.ndarray,
  levels: int,
  settings: Settings | None = None,
  *,
  progress: bool = True,
) -> Classifier:
  """Trains a classifier on dequantized images, as the model sees them.

  Args:
    images: [N, H, W, C] uint8.
    labels: [N] integers from 0.
    levels: grey levels of the images.
    settings: how; see there for the defaults.
    progress: show a progress bar on stderr.

  Returns:
    The classifier; the same on every run with the same settings.

  Raises:
    UserError: images and labels do not match, or there is but one class.
  """
  settings = settings or Settings()
  classes = _checked_classes(images, labels)
  size = min(settings.batch_size, len(images))
  steps = len(images) // size * settings.epochs
  optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, steps))
  module = ConvClassifier(classes, settings.channels, lowering=default_lowering())
  key = jax.random.key(settings.seed)
  parameters = module.init(random.named(key, "parameters"), images[:1] * 1.0)
  step = jax.jit(functools.partial(_step, module, optimizer, levels))
  state = parameters, optimizer.init(parameters)
  data = jnp.asarray(images), jnp.asarray(labels, jnp.int32)
  with counter(steps, "classifier", "step", shown=progress) as bar:
    for index, rows in enumerate(_batches(len(images), size, settings)):
      noise = random.fold_in(random.named(key, "dequantize"), index)
      state = step(noise, state, *(array[rows] for array in data))
      bar.update()
  return Classifier(state[0], images.shape[1:], classes, settings.channels)


def _batches(count: int, size: int, settings: Settings) -> Iterator[np.ndarray]:
  """Yields the rows of every mini-batch of all epochs."""
  rng = np.random.default_rng(settings.seed)
  for _ in range(settings.epochs):
    order = rng.permutation(count)
    for first in range(0, count - size + 1, size):
      yield order[first : first + size]


def _step(
  module: ConvClassifier,
  optimizer: optax.GradientTransformation,
  levels: int,
  key: Array,
  state: tuple[PyTree, PyTree],
  images: Array,
  labels: Array,
) -> tuple[PyTree, PyTree]:
  parameters, moments = state
  x = pixels.dequantized(key, images, levels)

  def loss(parameters: PyTree) -> Array:
    _, logits = module.apply(parameters, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  updates, moments = optimizer.update(jax.grad(loss)(parameters), moments)
  return optax.apply_updates(parameters, updates), moments


@functools.partial(jax.jit, static_argnums=0)
def _predict(
  module: ConvClassifier, parameters: PyTree, images: Array
) -> tuple[Array, Array]:
  features, logits = module.apply(parameters, images)
  return features, jax.nn.softmax(logits)


def _checked_classes(images: np.ndarray, labels: np.ndarray) -> int:
  if images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
    raise UserError(
      f"images have shape {images.shape}, labels {labels.shape}; allowed are"
      " [N, H, W, C] and [N]"
    )
  if labels.min() < 0 or len(np.unique(labels)) < 2:
    raise UserError(
      f"labels run from {labels.min()} to {labels.max()}; at least two classes, from"
      " 0 on, are needed"
    )
  return int(labels.max()) + 1


def save(path: files.StrPath, classifier: Classifier) -> None:
  """Writes a classifier as one .npz file, in one step."""
  flat = traverse_util.flatten_dict(classifier.parameters, sep="/")
  about = {
    "image_shape": classifier.image_shape,
    "classes": classifier.classes,
    "channels": classifier.channels,
    "about": classifier.about,
  }
  arrays = {name: np.asarray(leaf) for name, leaf in flat.items()}
  with files.replacing(path) as stream:
    np.savez(stream, **{_ABOUT: np.array(json.dumps(about))}, **arrays)


def load(path: files.StrPath) -> Classifier:
  """Reads a classifier that `save` wrote.

  Raises:
    UserError: the file is missing, damaged, or of something else.
  """
  where = f"classifier {path}"
  if not pathlib.Path(path).is_file():
    raise UserError(
      f"{where}: there is no such file; make it by"
      " python -m experiments.train_classifier"
    )
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
    about = json.loads(str(arrays.pop(_ABOUT)))
    classifier = Classifier(
      traverse_util.unflatten_dict(arrays, sep="/"),
      tuple(int(size) for size in about["image_shape"]),
      int(about["classes"]),
      tuple(int(size) for size in about["channels"]),
      about["about"],
    )
    _check_shapes(classifier)
  # Damaged archives make numpy and the zip library raise nearly anything.
  except Exception as error:
    raise UserError(f"{where}: is not one, or is damaged ({error})") from error
  return classifier


def _check_shapes(classifier: Classifier) -> None:
  image = jax.ShapeDtypeStruct((1, *classifier.image_shape), jnp.float32)
  wanted = jax.eval_shape(classifier.module.init, jax.random.key(0), image)
  shapes = (
    jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)
    for tree in (wanted, classifier.parameters)
  )
  if next(shapes) != next(shapes):
    raise ValueError("its arrays do not fit its description")
