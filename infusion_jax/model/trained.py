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
from typing import Any, NoReturn

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
from infusion_jax.networks import Network
from infusion_jax.peers import Trained, pictures
from infusion_jax.sampling import Chains, Weights

Array = jax.Array
PyTree = Any

#: Chains per call of the compiled sampler; fixed, see the module's docstring.
BATCH = 64
#: Pictures that a notebook shows of a model.
_SHOWN = 16
#: The same, of a model of points in the plane, which are one picture together.
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
  ) -> np.ndarray:
    """Draws images.

    Args:
      key: one key, from which image i takes `fold_in(key, i)`; or [B] keys, one per
        image. So it is in every method.
      count: how many; not needed with [B] keys.
      num_steps: length of the chain; by default as trained. More sharpen.
      mean: the mean of the last transition, as in the thesis; False draws from it.

    Returns:
      [count, H, W, C] float32; means lie in [0, 1].

    Raises:
      UserError: count or num_steps is below 1.
    """
    sample = functools.partial(_sample, mean, self._markov(num_steps))
    return _in_batches(sample, _one_each(key, count))

  def chain(
    self, key: Array, count: int | None = None, *, num_steps: int | None = None
  ) -> Chains:
    """Model chains with all their states; leaves [count, T, ...] (figure 3.1)."""
    chains = functools.partial(_chains, self._markov(num_steps))
    return _in_batches(chains, _one_each(key, count))

  def infuse(
    self, key: Array, images: Array, *, num_steps: int | None = None
  ) -> Chains:
    """Infusion chains towards images in [0, 1]; leaves [B, T, ...] (figure 3.2)."""
    images = self._checked(images)
    chains = functools.partial(_infusion_chains, self._markov(num_steps))
    return _in_batches(chains, _one_each(key, len(images)), images)

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
    self, key: Array, images: Array, num_chains: int = 64
  ) -> np.ndarray:
    """Importance-sampling estimates of log p(x), nats; see `estimate`."""
    return self.estimate(key, images, num_chains).importance

  def estimate(self, key: Array, images: Array, num_chains: int = 64) -> Estimates:
    """Lower bound and importance-sampling estimate of log p(x) (section 3.3.4).

    Matrix products are in full float32 on every device.

    Args:
      key: one key; image i has a stream of its own.
      images: [B, H, W, C], the data set's integers, which are dequantized, or
        real numbers in [0, 1), which are taken as they are.
      num_chains: k, infusion chains per image; the estimate rises with it.

    Returns:
      The estimates of every image, [B] nats.

    Raises:
      UserError: the images do not fit the model.
    """
    images = np.asarray(images)
    whole = images.dtype.kind in "iub"
    self._checked(images, highest=self.levels - 1 if whole else 1.0)
    with jax.default_matmul_precision("highest"):
      found = importance.evaluate(
        key, self._markov(), images, levels=self.levels, num_chains=num_chains
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
    # Unknown pixels may be anything, also what is no number.
    images = np.asarray(images, np.float32)
    known = self._checked_mask(known, len(images))
    self._checked(np.where(known, images, 0.0) if images.ndim == 4 else images)
    function = functools.partial(function, self._markov(num_steps))
    return _in_batches(function, _one_each(key, len(images)), images, known)

  def _markov(self, num_steps: int | None = None) -> MarkovChain:
    if num_steps is not None:
      _at_least_one("num_steps", num_steps)
    return sampling.markov_chain(self.network, self.weights, num_steps)

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


class PeerModel(Model):
  """A trained rival method, `network.peer`: it draws pictures, and has no chain."""

  def __repr__(self) -> str:
    """One line: what it is and where it comes from."""
    title, shape = self.network.peer.title, "x".join(map(str, self.image_shape))
    return f"PeerModel({str(self.path)!r}: {title}, images {shape})"

  def sample(
    self,
    key: Array,
    count: int | None = None,
    *,
    num_steps: int | None = None,
    mean: bool = True,
  ) -> np.ndarray:
    """Draws images as `Model.sample` does; `num_steps` are network calls.

    Raises:
      UserError: count or num_steps is below 1, or `mean` is False.
    """
    calls = self.network.num_steps if num_steps is None else num_steps
    _at_least_one("num_steps", calls)
    if not mean:
      self._markov()
    trained = Trained.of(self.weights)
    sample = functools.partial(pictures, self.network.peer, trained, num_calls=calls)
    return _in_batches(sample, _one_each(key, count))

  @property
  def no_chain(self) -> str:
    """What is told where a chain is asked for."""
    return (
      f"{self.path} holds a run of train.method = {self.config.train.method!r}, which"
      " has no chain; allowed are its pictures, and python -m experiments.compare"
    )

  def _markov(self, num_steps: int | None = None) -> NoReturn:
    raise UserError(self.no_chain)


def _one_each(key: Array, count: int | None) -> Array:
  """[B] keys as they are, or those of images 0 ... count - 1 of one key."""
  if key.ndim:
    return key
  if count is None:
    raise UserError("count is missing; with one key, say how many images")
  return keys_of(key, range(_at_least_one("count", count)))


def keys_of(key: Array, seeds: Sequence[int]) -> Array:
  """One key per seed: `fold_in(key, seed)`, [B].

  Raises:
    UserError: a seed is below 0 or has more than 32 bits.
  """
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise UserError(f"a seed is {seed}; allowed are 0 to {2**32 - 1}")
  return jax.vmap(lambda seed: jax.random.fold_in(key, seed))(
    jnp.asarray(list(seeds), jnp.uint32)
  )


def _at_least_one(name: str, value: int) -> int:
  if value < 1:
    raise UserError(f"{name} is {value}; it must be at least 1")
  return value


def _in_batches(function: Callable[..., PyTree], *arrays: Array) -> PyTree:
  """Calls `function` on rows in batches of `BATCH`, the last one padded."""
  count = len(arrays[0])
  results = []
  for first in range(0, count, BATCH):
    rows = np.minimum(np.arange(first, first + BATCH), count - 1)
    results.append(jax.device_get(function(*(array[rows] for array in arrays))))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


@functools.partial(jax.jit, static_argnums=0)
def _sample(mean: bool, markov: MarkovChain, keys: Array) -> Array:
  prediction = sampling.predict(markov, keys)
  return prediction.mean if mean else sampling.draw(keys, prediction)


def _batch_first(function: Callable[..., Chains]) -> Callable[..., Chains]:
  """The compiled function with [B, T, ...] leaves instead of [T, B, ...]."""

  @jax.jit
  def swapped(*arguments: PyTree) -> Chains:
    chains = function(*arguments)
    return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), chains)

  return swapped


_inpaint = jax.jit(sampling.inpaint)
_chains = _batch_first(sampling.chains)
_infusion_chains = _batch_first(sampling.infusion_chains)
_clamped_chains = _batch_first(sampling.clamped_chains)
