"""What is annealed: any deterministic decoder of standard normal noise to a Gaussian.

A chain is one (see `estimator`), and so is the generator of a VAE, GAN or GMMN with an
output variance (Wu et al., 2017).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from infusion_jax import chain, gaussian, pixels, random
from infusion_jax.chain import MarkovChain
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian

Array = jax.Array
PyTree = Any

#: Bytes that the gradient of a chain may keep from its T transitions. Above, as many
#: convolutions of many images do, each is computed twice and nothing of it is kept.
KEPT_BYTES = 2**30


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=("function",),
  meta_fields=("noise_shape", "levels", "outliers"),
)
@dataclasses.dataclass(frozen=True)
class Decoder:
  """p(x | eps), eps ~ N(0, I).

  Attributes:
    function: maps noise [B, *noise_shape] to a Gaussian over [B, H, W, C]; a `Partial`
      hands its weights over as arguments of a compiled program.
    noise_shape: of eps.
    levels: grey levels whose probabilities it gives; 0: it is a density.
    outliers: share of x's pixels that are uniform noise (`gaussian.with_outliers`).
  """

  function: Partial
  noise_shape: tuple[int, ...]
  levels: int = 0
  outliers: float = 0.0

  def decode(self, noise: Array) -> Gaussian:
    """p(. | eps) of noise [B, *noise_shape]."""
    return self.function(noise)

  def log_likelihood(self, x: Array, noise: Array) -> Array:
    """log p(x | eps), [B] nats, of images x [B, H, W, C]."""
    log_p = gaussian.log_output(x, self.decode(noise), self.levels)
    return gaussian.per_image(gaussian.with_outliers(log_p, x, self.outliers))

  def draw(self, keys: Array, noise: Array) -> Array:
    """x ~ p(. | eps), [N, H, W, C], of noise [N, *noise_shape] and one key an image."""
    x = gaussian.sample(keys, self.decode(noise))
    if self.outliers:
      chance = random.uniform(random.named(keys, "outlier"), x.shape)
      replaced = random.uniform(random.named(keys, "uniform"), x.shape)
      x = jnp.where(chance < self.outliers, replaced, x)
    return pixels.of_levels(x, self.levels) if self.levels else x


def decoder_of(model: MarkovChain | Decoder) -> Decoder:
  """A chain as a decoder of the noise of its T steps; a decoder as it is.

  Raises:
    UserError: a chain of other states than Gaussian ones.
  """
  if isinstance(model, Decoder):
    return model
  if not isinstance(model.prior, Gaussian):
    raise UserError(
      f"states are {type(model.prior).__name__}; annealing takes Gaussian ones of one"
      " mode, whose noise decodes smoothly"
    )
  shape = (model.num_steps, *model.prior.mean.shape)
  return Decoder(Partial(_decoded, model), shape, model.levels, model.outliers)


def _decoded(markov: MarkovChain, noise: Array) -> Gaussian:
  if bytes_kept(markov, noise) > KEPT_BYTES:
    again = jax.checkpoint(markov.transition, prevent_cse=False)  # Inside a scan.
    markov = dataclasses.replace(markov, transition=Partial(again))
  return chain.decode(noise, markov)


def bytes_kept(markov: MarkovChain, noise: Array) -> int:
  """What the gradient in the noise [B, T, H, W, C] keeps until it is computed."""

  def keep(noise: Array) -> PyTree:
    return jax.vjp(lambda noise: chain.decode(noise, markov), noise)[1]

  kept = jax.eval_shape(keep, jax.ShapeDtypeStruct(noise.shape, noise.dtype))
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
