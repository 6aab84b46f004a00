"""A trained model: sample, inpaint, score.

Image i of every result depends on the model and on
key i alone: chains run in batches of one fixed size, padded, so that the same
image comes out whatever it is asked for together with.
"""

import base64
import dataclasses
import functools
import html
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import sampling
from infusion_jax.chain import MarkovChain
from infusion_jax.config import Config
from infusion_jax.drawing import clouds, plots
from infusion_jax.errors import UserError
from infusion_jax.likelihood import importance
from infusion_jax.likelihood.importance import Estimates
from infusion_jax.model.batches import at_least_one, in_batches, keys_of, one_each
from infusion_jax.networks import Network
from infusion_jax.sampling import Chains, Weights

Array = jax.Array
PyTree = Any
#: Pictures that a notebook shows of a model.
_SHOWN = 16
#: Points of a model in the plane, which make one picture together.
_POINTS = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
  """A trained model.

  Attributes:
    network: the transition operator's network.
    weights: parameters, batch statistics, prior, rates.
    config: the configuration it was trained with.
    levels: grey levels of the images it was trained on.
    about: the checkpoint's own description: epoch, bound, kind of statistics.
    path: where it was loaded from.
    step: the checkpoint's optimizer step.
  """

  network: Network
  weights: Weights
  config: Config
  levels: int
  about: dict[str, Any]
  path: pathlib.Path
  step: int

  def __repr__(self) -> str:
    """One line: what it is, where it comes from and how good it was."""
    height, width, channels = self.image_shape
    facts = [
      f"{self.config.model.name} of {self.network.num_steps} steps",
      f"images {height}x{width}x{channels}",
    ]
    if self.about.get("best_bound") is not None:
      facts.append(f"validation bound {self.about['best_bound']:.2f} nats per image")
    return f"Model({str(self.path)!r}: {', '.join(facts)})"

  def _repr_png_(self) -> bytes:
    """Some of its pictures, which notebooks show beside the line above."""
    points = clouds.are_points(self.image_shape)
    images = self.sample(jax.random.key(0), _POINTS if points else _SHOWN)
    images = clouds.cloud(images)[None] if points else images
    return plots.png(plots.grid(images, columns=8))

  def _repr_html_(self) -> str:
    """The line, and the pictures beneath it."""
    code = base64.b64encode(self._repr_png_()).decode()
    return f'<p>{html.escape(repr(self))}</p><img src="data:image/png;base64,{code}">'

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.network.image_shape

  def keys(self, key: Array, count: int) -> Array:
    """The keys of images 0 ... count - 1 of a seed's key: `fold_in(key, i)`."""
    return keys_of(key, range(count))

  def sample(
    self,
    key: Array,
    count: int | None = None,
    *,
    num_steps: int | None = None,
    mean: bool = True,
    label: int | Sequence[int] | None = None,
    guidance: float | None = None,
  ) -> np.ndarray:
    """Draws images.

    Args:
      key: one key, from which image i takes `fold_in(key, i)`; or [B] keys, one per
        image. So it is in every method.
      count: how many; not needed with [B] keys.
      num_steps: length of the chain; by default as trained. More sharpen.
      mean: the mean of the last transition, as in the thesis; False draws from it.
      label: of a model with classes: one for all images, or one each; None: images
        without a label.
      guidance: how much the label counts (`gaussian.Distribution.toward`): 1, as
        without it, is the conditional model, 2 exaggerates, 0 ignores the label.

    Returns:
      [count, H, W, C] float32; means lie in [0, 1].

    Raises:
      UserError: count or num_steps is below 1, or there is no such label.
    """
    sample = functools.partial(_sample, mean, self.markov(num_steps, guidance))
    return self._labelled(sample, one_each(key, count), label)

  def chain(
    self,
    key: Array,
    count: int | None = None,
    *,
    num_steps: int | None = None,
    label: int | Sequence[int] | None = None,
    guidance: float | None = None,
  ) -> Chains:
    """Model chains with all their states; leaves [count, T, ...] (figure 3.1)."""
    chains = functools.partial(_chains, self.markov(num_steps, guidance))
    return self._labelled(chains, one_each(key, count), label)

  def infuse(
    self, key: Array, images: Array, *, num_steps: int | None = None
  ) -> Chains:
    """Infusion chains towards images in [0, 1]; leaves [B, T, ...] (figure 3.2)."""
    images = self._checked(images)
    chains = functools.partial(_infusion_chains, self.markov(num_steps))
    return in_batches(chains, one_each(key, len(images)), images)

  def inpaint(
    self,
    key: Array,
    images: Array,
    known: Array,
    *,
    num_steps: int | None = None,
  ) -> np.ndarray:
    """Completes images; known pixels come out bit-identical (section 3.5.3).

    Args:
      key: one key or [B] keys. Repeat an image for restarts.
      images: [B, H, W, C] in [0, 1]; unknown pixels are ignored.
      known: bool, [H, W] for all images, or [B, H, W, 1].
      num_steps: length of the chain; by default as trained.

    Returns:
      [B, H, W, C] float32.

    Raises:
      UserError: a shape does not fit the model.
    """
    return self._clamped(_inpaint, key, images, known, num_steps)

  def inpaint_chain(
    self, key: Array, images: Array, known: Array, *, num_steps: int | None = None
  ) -> Chains:
    """The clamped chains of `inpaint`; leaves [B, T, ...].

    Known pixels of the states, but not of the means, are the image's own.
    """
    return self._clamped(_clamped_chains, key, images, known, num_steps)

  def log_likelihood(
    self,
    key: Array,
    images: Array,
    num_chains: int = 64,
    label: int | Sequence[int] | None = None,
  ) -> np.ndarray:
    """Importance-sampling estimates of log p(x), nats; see `estimate`."""
    return self.estimate(key, images, num_chains, label).importance

  def class_likelihoods(
    self, key: Array, images: Array, num_chains: int = 64
  ) -> np.ndarray:
    """Importance-sampling estimates of log p(x | y) for every label y, [B, K] nats.

    All labels see the same noise. The largest of a row is what a generative classifier
    with equal shares of the classes answers.

    Raises:
      UserError: the model has no classes, or see `estimate`.
    """
    labels = range(self._checked_classes())
    found = [self.log_likelihood(key, images, num_chains, label) for label in labels]
    return np.stack(found, axis=1)

  def estimate(
    self,
    key: Array,
    images: Array,
    num_chains: int = 64,
    label: int | Sequence[int] | None = None,
  ) -> Estimates:
    """Lower bound and importance-sampling estimate of log p(x) (section 3.3.4).

    Matrix products are in full float32 on every device.

    Args:
      key: one key; image i has a stream of its own.
      images: [B, H, W, C], the data set's integers, which are dequantized, or
        real numbers in [0, 1), which are taken as they are.
      num_chains: k, infusion chains per image; the estimate rises with it.
      label: of a model with classes, for log p(x | label): one for all images, or one
        each; None: log p(x) of images without a label.

    Returns:
      The estimates of every image, [B] nats.

    Raises:
      UserError: the images do not fit the model.
    """
    images = np.asarray(images)
    whole = images.dtype.kind in "iub"
    self._checked(images, highest=max(self.levels - 1, 1) if whole else 1.0)
    with jax.default_matmul_precision("highest"):
      found = importance.evaluate(
        key,
        self.markov(),
        images,
        levels=self.levels,
        labels=self.checked_labels(label, len(images)),
        num_chains=num_chains,
      )
    return jax.tree.map(lambda leaf: leaf[0], found)

  def _clamped(
    self,
    function: Callable[..., PyTree],
    key: Array,
    images: Array,
    known: Array,
    num_steps: int | None,
  ) -> PyTree:
    # Unknown pixels may hold any value, NaN included.
    images = np.asarray(images, np.float32)
    known = self._checked_mask(known, len(images))
    self._checked(np.where(known, images, 0.0) if images.ndim == 4 else images)
    function = functools.partial(function, self.markov(num_steps))
    return in_batches(function, one_each(key, len(images)), images, known)

  @property
  def num_classes(self) -> int:
    """How many labels the model knows; 0: none."""
    return self.network.num_classes

  @property
  def condition(self) -> str:
    """What the network is shown of images (`config.CONDITIONS`); empty: nothing."""
    return self.config.model.condition

  def markov(
    self, num_steps: int | None = None, guidance: float | None = None
  ) -> MarkovChain:
    """The model's chain; see `sampling.markov_chain`.

    Raises:
      UserError: num_steps is below 1, or there is guidance but no class.
    """
    if num_steps is not None:
      at_least_one("num_steps", num_steps)
    if guidance is not None:
      self._checked_classes()
    return sampling.markov_chain(self.network, self.weights, num_steps, guidance)

  def _labelled(
    self,
    function: Callable[..., PyTree],
    keys: Array,
    label: int | Sequence[int] | None,
  ) -> PyTree:
    """Calls `function(keys, labels)` in batches; without a label, `function(keys)`."""
    labels = self.checked_labels(label, len(keys))
    return in_batches(function, keys, *([] if labels is None else [labels]))

  def _checked_classes(self) -> int:
    if not self.num_classes:
      raise UserError(
        f"the model in {self.path} has no classes; train one with model.num_classes"
      )
    return self.num_classes

  def checked_labels(
    self, label: int | Sequence[int] | None, count: int
  ) -> np.ndarray | None:
    """One label for each of `count` images, int32; None where there is none.

    Raises:
      UserError: the model has no classes, or no such label.
    """
    if label is None:
      return None
    most = self._checked_classes() - 1
    labels = np.asarray(label)
    if labels.shape not in ((), (count,)) or labels.dtype.kind not in "iu":
      raise UserError(
        f"label has shape {labels.shape} and type {labels.dtype}; allowed are one whole"
        f" number or {count} of them"
      )
    wrong = labels[(labels < 0) | (labels > most)]
    if wrong.size:
      raise UserError(f"label is {wrong.flat[0]}; this model knows 0 to {most}")
    return np.broadcast_to(labels, (count,)).astype(np.int32)

  def _checked(self, images: Array, highest: float = 1.0) -> np.ndarray:
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[1:] != self.image_shape or not len(images):
      raise UserError(
        f"images have shape {images.shape}; this model takes"
        f" [B, {', '.join(map(str, self.image_shape))}]"
      )
    lowest, most = images.min(), images.max()
    if not (lowest >= 0 and most <= highest):
      raise UserError(
        f"images hold values from {lowest:g} to {most:g}; allowed are 0 to {highest:g}"
      )
    return images

  def _checked_mask(self, known: Array, count: int) -> np.ndarray:
    known = np.asarray(known, bool)
    height, width, _ = self.image_shape
    if known.shape == (height, width):
      known = np.broadcast_to(known[None, :, :, None], (count, height, width, 1))
    if known.shape != (count, height, width, 1):
      raise UserError(
        f"known has shape {known.shape}; allowed are [{height}, {width}] and"
        f" [{count}, {height}, {width}, 1]"
      )
    return known


@functools.partial(jax.jit, static_argnums=0)
def _sample(
  mean: bool, markov: MarkovChain, keys: Array, labels: Array | None = None
) -> Array:
  prediction = sampling.predict(sampling.given(markov, labels), keys)
  return prediction.mean if mean else sampling.draw(keys, prediction)


def _batch_first(function: Callable[..., Chains]) -> Callable[..., Chains]:
  """The compiled function with [B, T, ...] leaves instead of [T, B, ...]."""

  @jax.jit
  def swapped(*arguments: PyTree) -> Chains:
    chains = function(*arguments)
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), chains)

  return swapped


_inpaint = jax.jit(sampling.inpaint)
_chains = _batch_first(
  lambda markov, keys, labels=None: sampling.chains(
    sampling.given(markov, labels), keys
  )
)
_infusion_chains = _batch_first(sampling.infusion_chains)
_clamped_chains = _batch_first(sampling.clamped_chains)
