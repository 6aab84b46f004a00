"""Restorations of half-seen images: several of each, how near they are, how various."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from infusion_jax import sampling
from infusion_jax.drawing import plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.model import Model, keys_of
from infusion_jax.model.batches import in_batches
from infusion_jax.restoration import conditions, observation
from infusion_jax.restoration.observation import GREY, Means
from infusion_jax.views import inpainting

Array = jax.Array

TASKS = ("inpaint", "colour", "superres")
#: Ways to use what is seen: every state of the chain is held to it, which needs no
#: training; or the network is shown it, which it must be trained for.
WAYS = ("held", "shown")


class Restored(NamedTuple):
  """Restorations of R images, K of each.

  Attributes:
    observed: what the model was given, drawn at the images' size, [R, H, W, C].
    plain: what can be had without a model, [R, H, W, C].
    images: [R, K, H, W, C], not cut to [0, 1].
    error: the largest difference between what was observed and what of the
      restorations would be.
  """

  observed: np.ndarray
  plain: np.ndarray
  images: np.ndarray
  error: float


class Observed(NamedTuple):
  """What is seen of N images.

  Attributes:
    means: what it is made of; None: single pixels.
    y: the means [N, h, w, C or 1]; or the pixels [N, H, W, C], 0 where unknown.
    picture: the same as a network is shown it, [N, H, W, C + 1].
  """

  means: Means | None
  y: Array
  picture: Array


def restore(
  model: Model,
  key: Array,
  originals: np.ndarray,
  task: str,
  restarts: int,
  *,
  numbers: Sequence[int] | None = None,
  factor: int = 4,
  known: np.ndarray | None = None,
  num_steps: int | None = None,
  label: int | None = None,
  way: str = "held",
) -> Restored:
  """Restores every image several times.

  Args:
    model: the model, of Gaussian states.
    key: one key; restart k of image n takes `fold_in(fold_in(key, n), k)`.
    originals: [R, H, W, C] in [0, 1]; only what `task` leaves of them is used.
    task: one of `TASKS`: complete, add colours, or enlarge.
    restarts: K.
    numbers: n of each image; by default 0 ... R - 1.
    factor: of "superres": side of the blocks whose means are seen.
    known: of "inpaint": bool [H, W].
    num_steps: length of the chain; by default as trained.
    label: of a model with classes: the label of all images.
    way: one of `WAYS`. Pictures agree with what was seen either way.

  Raises:
    UserError: there is no such task or label, or it does not fit the images or the
      model.
  """
  if task not in TASKS:
    raise UserError(f"task is {task!r}; allowed are {', '.join(TASKS)}")
  if model.network.distribution is not Gaussian:
    raise UserError(
      f"the model in {model.path} has states of bits, several modes or"
      " self-conditioning; restoring takes plain Gaussian ones"
    )
  if way == "shown" and not can_be_shown(model, task, factor):
    raise UserError(
      f"the model in {model.path} has model.condition = {model.condition!r}; it is not"
      f" trained for {_condition(task, factor)!r}"
    )
  seen = observed(originals, task, factor, known)
  numbers = range(len(originals)) if numbers is None else numbers
  keys = jax.vmap(lambda one: keys_of(one, range(restarts)))(keys_of(key, numbers))
  labels = model.checked_labels(label, 1)
  markov = sampling.given(
    model.markov(num_steps), None if labels is None else labels[0]
  )
  rows = (jnp.repeat(part, restarts, axis=0) for part in (seen.y, seen.picture))
  function = functools.partial(_restore, seen.means, way, markov)
  images = in_batches(function, keys.reshape(-1), *rows)
  images = images.reshape(-1, restarts, *model.image_shape)
  picture = np.asarray(seen.picture)
  return Restored(
    np.where(picture[..., -1:] > 0, picture[..., :-1], 0.5),
    _plain(seen, model),
    images,
    _error(seen, images),
  )


def can_be_shown(model: Model, task: str, factor: int) -> bool:
  """Whether a model is trained with what a task leaves of images."""
  return model.condition == _condition(task, factor)


def _condition(task: str, factor: int) -> str:
  return f"superres{factor}" if task == "superres" else task


def observed(
  originals: np.ndarray, task: str, factor: int = 4, known: np.ndarray | None = None
) -> Observed:
  """What a task leaves of images [N, H, W, C]; see `restore`.

  Raises:
    UserError: it does not fit the images.
  """
  x = jnp.asarray(originals)
  if task == "inpaint":
    picture = conditions.of_part(x, jnp.asarray(known)[..., None])
    return Observed(None, picture[..., :-1], picture)
  means = Means(weights=GREY) if task == "colour" else Means(factor)
  means.check(x.shape[1:])
  y = means.observe(x)
  return Observed(means, y, conditions.of_means(means, y, x.shape[-1]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _restore(
  means: Means | None, way: str, markov: Any, keys: Array, y: Array, picture: Array
) -> Array:
  """One picture for each key, [B, H, W, C]."""
  known = picture[..., -1:] > 0
  if way == "held" and means:
    return observation.restore(markov, keys, y, means)
  if way == "held":
    return sampling.inpaint(markov, keys, y, known)
  mean = sampling.predict(sampling.given(markov, seen=picture), keys).mean
  return means.moved(mean, y) if means else jnp.where(known, y, mean)


def _plain(seen: Observed, model: Model) -> np.ndarray:
  """Bicubic enlargements, grey pictures, or the prior's mean where nothing is known."""
  if seen.means and seen.means.block > 1:
    return _bicubic(np.asarray(seen.y), seen.means.block)
  picture = np.asarray(seen.picture)
  prior = model.weights.infusion.prior.mean
  return np.where(picture[..., -1:] > 0, picture[..., :-1], prior)


def _error(seen: Observed, images: np.ndarray) -> float:
  """See `Restored`."""
  found = jnp.asarray(images).reshape(-1, *images.shape[2:])
  found = seen.means.observe(found) if seen.means else found
  rows = seen.y.shape[0], -1, *seen.y.shape[1:]
  difference = abs(found.reshape(rows) - seen.y[:, None])
  if not seen.means:
    difference *= seen.picture[:, None, ..., -1:]
  return float(difference.max())


def _bicubic(y: np.ndarray, factor: int) -> np.ndarray:
  """Enlarged by Pillow's bicubic filter, channel by channel: [R, H, W, C]."""
  rows, height, width, channels = y.shape
  size = width * factor, height * factor
  enlarged = [
    np.asarray(Image.fromarray(y[r, ..., c]).resize(size, Image.Resampling.BICUBIC))
    for r in range(rows)
    for c in range(channels)
  ]
  stacked = np.stack(enlarged).reshape(rows, channels, size[1], size[0])
  return np.moveaxis(stacked, 1, -1)


def psnr(images: np.ndarray, originals: np.ndarray) -> np.ndarray:
  """Peak signal-to-noise ratios in dB, [R]; images [R, H, W, C] are cut to [0, 1]."""
  error = np.clip(images, 0.0, 1.0) - originals
  squares = np.square(error, dtype=np.float64).mean((1, 2, 3))
  return -10.0 * np.log10(np.maximum(squares, 1e-12))


def measured(originals: np.ndarray, found: Restored) -> dict[str, float]:
  """How near and how various restorations are, means over the images.

  Returns:
    psnr: of single restorations; psnr_mean: of the mean of an image's restorations;
    psnr_best: of the nearest of them; psnr_plain: without a model, all in dB;
    diversity: standard deviation over the restarts of a pixel in [0, 1]; error: see
    `Restored`.
  """
  cut = np.clip(found.images, 0.0, 1.0)
  restarts = cut.shape[1]
  each = np.stack([psnr(cut[:, k], originals) for k in range(restarts)])
  return {
    "psnr": float(each.mean()),
    "psnr_mean": float(psnr(cut.mean(1), originals).mean()),
    "psnr_best": float(each.max(0).mean()),
    "psnr_plain": float(psnr(found.plain, originals).mean()),
    "diversity": float(cut.std(1).mean()),
    "error": found.error,
  }


def panel(originals: np.ndarray, found: Restored, levels: int) -> Picture:
  """Draws what was seen, restorations, and the images themselves."""
  seen, images, whole = (
    inpainting.shown(part, levels) for part in (found.observed, found.images, originals)
  )
  return plots.inpainting(seen, whole, images, titles=("seen", "original", "restored"))
