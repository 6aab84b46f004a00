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
from infusion_jax.restoration import observation
from infusion_jax.restoration.observation import GREY, Means
from infusion_jax.views import inpainting

Array = jax.Array

TASKS = ("inpaint", "colour", "superres")


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

  Raises:
    UserError: there is no such task, or it does not fit the images or the model.
  """
  if task not in TASKS:
    raise UserError(f"task is {task!r}; allowed are {', '.join(TASKS)}")
  if model.network.distribution is not Gaussian:
    raise UserError(f"the model in {model.path} has states of bits, not Gaussian ones")
  if task == "inpaint":
    found = inpainting.complete(
      model, key, originals, known, restarts, numbers=numbers, num_steps=num_steps
    )
    plain = np.where(known[..., None], originals, model.weights.infusion.prior.mean)
    observed = np.where(known[..., None], originals, 0.5)
    return Restored(observed, plain, found.images, 0.0)
  means = Means(weights=GREY) if task == "colour" else Means(factor)
  means.check(model.image_shape)
  return _from_means(model, key, originals, means, restarts, numbers, num_steps)


def _from_means(
  model: Model,
  key: Array,
  originals: np.ndarray,
  means: Means,
  restarts: int,
  numbers: Sequence[int] | None,
  num_steps: int | None,
) -> Restored:
  y = means.observe(jnp.asarray(originals))
  keys = keys_of(key, range(len(originals)) if numbers is None else numbers)
  keys = jax.vmap(lambda one: keys_of(one, range(restarts)))(keys).reshape(-1)
  markov = sampling.markov_chain(model.network, model.weights, num_steps)
  rows = jnp.repeat(y, restarts, axis=0)
  images = in_batches(functools.partial(_restore, means, markov), keys, rows)
  error = float(abs(means.observe(jnp.asarray(images)) - rows).max())
  spread = np.broadcast_to(means.spread(y), originals.shape)
  plain = _bicubic(np.asarray(y), means.block) if means.block > 1 else spread
  return Restored(
    spread, plain, images.reshape(-1, restarts, *model.image_shape), error
  )


@functools.partial(jax.jit, static_argnums=0)
def _restore(means: Means, markov: Any, keys: Array, y: Array) -> Array:
  return observation.restore(markov, keys, y, means)


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
