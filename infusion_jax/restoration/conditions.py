"""What a network that is trained to restore is shown of an image.

It is a picture of the image's size with one more channel, [B, H, W, C + 1]: the known
pixels or means of pixels, each at its place and 0 elsewhere, and 1 where something is
known. Nothing but zeros is nothing seen. A network has it as a second input beside the
state, see `networks.condition`.
"""

import jax
import jax.numpy as jnp

from infusion_jax import random
from infusion_jax.errors import UserError
from infusion_jax.restoration.observation import GREY, Means

Array = jax.Array

#: Means by `model.condition`. The other condition is "inpaint".
MEANS = {"colour": Means(weights=GREY), "superres2": Means(2), "superres4": Means(4)}


def check(name: str, image_shape: tuple[int, int, int]) -> None:
  """Raises UserError where images of this shape cannot be observed so."""
  if name in MEANS:
    try:
      MEANS[name].check(image_shape)
    except UserError as error:
      raise UserError(f"model.condition is {name!r}; {error}") from error


def of_means(means: Means, y: Array, channels: int) -> Array:
  """Means [B, h, w, C or 1] at all of their pixels, all of them known."""
  spread = means.spread(y)
  spread = jnp.broadcast_to(spread, (*spread.shape[:-1], channels))
  return jnp.concatenate([spread, jnp.ones_like(spread[..., :1])], axis=-1)


def of_part(x: Array, known: Array) -> Array:
  """Images [B, H, W, C] where they are known, bool [B, H, W, 1] or broadcastable."""
  known = jnp.broadcast_to(known, (*x.shape[:-1], 1))
  return jnp.concatenate([jnp.where(known, x, 0.0), known.astype(x.dtype)], axis=-1)


def of_images(name: str, key: Array, x: Array) -> Array:
  """What is seen of whole images in training.

  Args:
    name: one of `config.CONDITIONS`.
    key: chooses the known part of each image ("inpaint"), see `parts`.
    x: [B, H, W, C] in [0, 1].

  Returns:
    [B, H, W, C + 1].
  """
  if name == "inpaint":
    return of_part(x, parts(key, x.shape))
  return of_means(MEANS[name], MEANS[name].observe(x), x.shape[-1])


def parts(key: Array, shape: tuple[int, ...]) -> Array:
  """Random rectangles of known pixels, bool [B, H, W, 1].

  Each of the four sides lies at the image's border with odds of one in two, so that
  halves, corners, bands and middles all occur, and the whole image.
  """
  batch, height, width, _ = shape
  ends = jnp.sort(random.uniform(random.fold_in(key, 1), (batch, 2, 2)), axis=-1)
  border = random.uniform(random.fold_in(key, 2), (batch, 2, 2)) < 0.5
  low, high = jnp.moveaxis(jnp.where(border, jnp.array([0.0, 1.0]), ends), -1, 0)

  def within(axis: int, size: int) -> Array:
    middle = (jnp.arange(size) + 0.5) / size
    return (low[:, axis, None] <= middle) & (middle <= high[:, axis, None])

  rows, columns = within(0, height), within(1, width)
  return (rows[:, :, None] & columns[:, None, :])[..., None]
