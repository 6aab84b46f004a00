"""What scores of images look through: a network's features and predictions."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax.errors import UserError
from infusion_jax.metrics import scores
from infusion_jax.metrics.scores import SplitScore

Array = jax.Array
ImageShape = tuple[int, int, int]


class Predictions(NamedTuple):
  """What a network says of images.

  Attributes:
    features: [N, F].
    probabilities: p(y | x), [N, K].
  """

  features: np.ndarray
  probabilities: np.ndarray


def _any_shape(image_shape: ImageShape) -> None:
  del image_shape


class Extractor(NamedTuple):
  """A network to score with.

  Attributes:
    name: one of `NAMES`; it decides what the scores are called.
    predict: maps images [N, H, W, C] in [0, 1], of any number, to `Predictions`.
    about: what to say of the network beside its scores.
    check: raises UserError for an image shape (H, W, C) that it does not take.
  """

  name: str
  predict: Callable[[np.ndarray], Predictions]
  about: Mapping[str, Any] = {}
  check: Callable[[ImageShape], None] = _any_shape


class Scores(NamedTuple):
  """The scores of generated images.

  Attributes:
    inception_score: see `scores.inception_score`.
    frechet: see `scores.frechet_distance`.
    kernel: see `scores.kernel_distance`.
  """

  inception_score: SplitScore
  frechet: float
  kernel: SplitScore


#: What the fields of `Scores` are called by extractor: the names of the literature
#: belong to Inception-v3 with the weights of TensorFlow's graph alone.
NAMES = {
  "inception": Scores("inception_score", "fid", "kid"),
  "torchvision": Scores("torchvision_score", "torchvision_fid", "torchvision_kid"),
  "classifier": Scores("classifier_score", "classifier_fid", "classifier_kid"),
}


def compare(
  generated: Predictions,
  reference: Predictions,
  *,
  splits: int = 10,
  subsets: int = 100,
  subset_size: int = 1000,
  seed: int = 0,
) -> Scores:
  """Scores what a network said of generated images against real ones.

  Args:
    generated: of N images; 50,000 in the literature.
    reference: of M images.
    splits: of the Inception or classifier score.
    subsets: of the kernel distance.
    subset_size: of the kernel distance.
    seed: chooses the subsets.

  Returns:
    The scores.

  Raises:
    UserError: there are too few images.
  """
  pair = generated.features, reference.features
  return Scores(
    scores.inception_score(generated.probabilities, splits),
    scores.frechet_distance(*pair),
    scores.kernel_distance(*pair, subsets=subsets, subset_size=subset_size, seed=seed),
  )


def gathered(extractor: Extractor, parts: Iterable[np.ndarray]) -> Predictions:
  """What a network says of images that come in parts and need not be kept.

  Args:
    extractor: the network.
    parts: arrays [n, H, W, C] in [0, 1], at least one.

  Returns:
    The predictions for all.
  """
  found = zip(*(extractor.predict(part) for part in parts), strict=True)
  return Predictions(*map(np.concatenate, found))


def in_batches(
  function: Callable[[Array], tuple[Array, Array]], images: np.ndarray, size: int
) -> Predictions:
  """Runs a compiled `function` over images, the last batch padded.

  Args:
    function: maps [size, H, W, C] to features and probabilities.
    images: [N, H, W, C].
    size: images per call.

  Returns:
    The predictions for all N.

  Raises:
    UserError: there are no images.
  """
  if images.ndim != 4 or not len(images):
    raise UserError(
      f"images have shape {images.shape}; allowed is [N, H, W, C] with N at least 1"
    )
  parts = []
  for first in range(0, len(images), size):
    rows = np.minimum(np.arange(first, first + size), len(images) - 1)
    parts.append(jax.device_get(function(jnp.asarray(images[rows], jnp.float32))))
  features, probabilities = (
    np.concatenate(part)[: len(images)] for part in zip(*parts, strict=True)
  )
  return Predictions(features, probabilities)
