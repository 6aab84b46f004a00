"""Linear observations of an image, and Gaussians given one.

An observation takes weighted means of pixels, each pixel in one mean: blocks of a
picture (a smaller one), its channels (a grey one), or both. Given y = A x a diagonal
Gaussian stays Gaussian; for a draw z of it

    z + S A' (A S A')^-1 (y - A z),    S the variances,

is an exact draw given y (Matheron's rule). As every pixel is in one mean, A S A' is
diagonal. Inpainting is the special case of single pixels, see `chain.clamping`.
"""

import dataclasses

import jax
import jax.numpy as jnp

from infusion_jax import chain, random
from infusion_jax.chain import Drawer, MarkovChain
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Draw, Gaussian

Array = jax.Array

#: Weights of red, green and blue in a grey value (ITU-R BT.601, as Pillow's "L").
GREY = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Means:
  """Means over square blocks and perhaps over channels; hashable.

  Attributes:
    block: side of the blocks in pixels.
    weights: of the channels in a mean, summing to 1; empty: each channel has its own.
  """

  block: int = 1
  weights: tuple[float, ...] = ()

  def check(self, image_shape: tuple[int, int, int]) -> None:
    """Raises UserError where images of this shape have no such means."""
    height, width, channels = image_shape
    if self.block < 1 or height % self.block or width % self.block:
      raise UserError(
        f"factor is {self.block}; it must divide the sides of images, {height}x{width}"
      )
    if self.weights and len(self.weights) != channels:
      raise UserError(
        f"images have {channels} channels; a grey value is made of {len(self.weights)}"
      )

  def observe(self, x: Array) -> Array:
    """A x: [B, H, W, C] to [B, H / block, W / block, C or 1]."""
    return self._sums(x * self._weights(x))

  def spread(self, y: Array) -> Array:
    """Every mean at all of its pixels: [B, h, w, C or 1] to [B, H, W, same]."""
    return jnp.repeat(jnp.repeat(y, self.block, axis=1), self.block, axis=2)

  def fitted(self, z: Array, variance: Array, y: Array) -> Array:
    """A draw or mean z, moved so that A z = y, where it is uncertain most.

    Args:
      z: [B, H, W, C]: a draw of a Gaussian, or its mean.
      variance: of the Gaussian, broadcastable to z.
      y: the observation.

    Returns:
      A draw of the Gaussian given y, or its mean, [B, H, W, C].
    """
    weights = self._weights(z)
    variance = jnp.broadcast_to(variance, z.shape)
    gain = (y - self.observe(z)) / self._sums(weights**2 * variance)
    return z + variance * weights * self.spread(gain)

  def moved(self, x: Array, y: Array) -> Array:
    """The picture x [B, H, W, C], all pixels of a mean changed alike so that A x = y.

    Where a network's picture is smoother than the truth, its channels miss edges alike:
    `fitted`, which takes them for independent, would colour the edges.
    """
    return x + self.spread(y - self.observe(x))

  def _weights(self, x: Array) -> Array:
    weights = jnp.asarray(self.weights or 1.0, x.dtype)
    return jnp.broadcast_to(weights / self.block**2, x.shape)

  def _sums(self, x: Array) -> Array:
    batch, height, width, channels = x.shape
    blocks = height // self.block, self.block, width // self.block, self.block
    sums = x.reshape(batch, *blocks, channels).sum((2, 4))
    return sums.sum(-1, keepdims=True) if self.weights else sums


def observing(means: Means, y: Array) -> Drawer:
  """A draw for `chain.run`: exact, given that A z = y."""

  def draw(key: Array, p: Gaussian) -> Draw:
    return Draw(means.fitted(p.draw(key), p.variance, y), None)

  return draw


def restore(markov: MarkovChain, keys: Array, y: Array, means: Means) -> Array:
  """Images of the model chain whose every state is held to an observation.

  Nothing is trained for it: as in inpainting, each state is drawn from the transition
  given the observation, and the picture is the last transition's mean given it.

  Args:
    markov: the trained model's chain, of Gaussian states.
    keys: [B].
    y: `means.observe` of images, [B, h, w, C or 1].
    means: what was observed.

  Returns:
    [B, H, W, C], whose observation is y.
  """
  prediction = chain.run(
    random.steps(keys, markov.num_steps),
    chain.repeat_for_batch(markov.prior, len(y)),
    markov.transition,
    markov.steps,
    observing(means, y),
    unroll=markov.unroll,
  ).prediction
  return means.fitted(prediction.mean, prediction.variance, y)
