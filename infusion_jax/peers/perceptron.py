"""The one network of all peers: the thesis's perceptron, with a time if there is one.

Batch norm is replaced by layer norm: peers have up to a thousand times, and an image
must not depend on its batch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax import random
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks.heads import to_gaussian

Array = jax.Array
PyTree = Any

_FREQUENCIES = 32


class Perceptron(nn.Module):
  """d -> hidden -> ... -> outputs; layer norm and ReLU between.

  Attributes:
    hidden_sizes: units of the hidden layers.
    outputs: numbers that come out.
    noise: deviation of the noise added before every hidden activation (GSN).
  """

  hidden_sizes: Sequence[int]
  outputs: int
  noise: float = 0.0

  @nn.compact
  def __call__(
    self, h: Array, time: Array | None = None, key: Array | None = None
  ) -> Array:
    """Maps [B, d], perhaps with times [B] and noise from key(s), to [B, outputs]."""
    for layer, size in enumerate(self.hidden_sizes):
      h = nn.Dense(size)(h)
      if time is not None:
        h = h + nn.Dense(size, use_bias=False)(_waves(time))
      h = nn.LayerNorm()(h)
      if self.noise:
        h = h + self.noise * random.normal(random.fold_in(key, layer), h.shape)
      h = nn.relu(h)
    return nn.Dense(self.outputs)(h)


def call(network: nn.Module, parameters: PyTree, *inputs: Array) -> Array:
  """One network call: all that peers do goes through here, where tests count."""
  return network.apply({"params": parameters}, *inputs)


def init(network: nn.Module, key: Array, inputs: int, timed: bool = False) -> PyTree:
  """Initial parameters of a network for [B, inputs], with times [B] if `timed`."""
  arguments = [jnp.zeros((1, inputs)), jnp.zeros(1) if timed else None, key]
  return network.init(key, *arguments)["params"]


def _waves(time: Array) -> Array:
  """Sines and cosines of a time [B] of order 1, [B, 2 * 32]."""
  angles = time[:, None] * jnp.geomspace(0.5, 50.0, _FREQUENCIES)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


@dataclasses.dataclass(frozen=True)
class Heads:
  """The thesis's output: sigmoid means, bounded variances (section 3.5)."""

  image_shape: tuple[int, int, int]
  variance_scale: float = 0.1
  variance_floor: float = 1e-4

  def __call__(self, raw: Array) -> Gaussian:
    """Maps [B, 2 H W C] to a Gaussian over [B, H, W, C]."""
    mean, variance = jnp.split(raw.reshape(len(raw), 2, *self.image_shape), 2, 1)
    return to_gaussian(
      mean[:, 0], variance[:, 0], self.variance_scale, self.variance_floor
    )
