"""A time-conditioned U-Net operator, beyond the thesis.

The thesis names "more sophisticated networks" as future work. All parameters
are shared by the steps; the step comes in through its embedding, so nothing is
kept per step and there are no batch statistics.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Distribution
from infusion_jax.networks.condition import LabelTable, beside
from infusion_jax.networks.heads import (
  count,
  initializer,
  states_shape,
  to_distribution,
)
from infusion_jax.networks.layers import Conv
from infusion_jax.networks.products import dense

Array = jax.Array

# Turns over the whole chain of the slowest and the fastest wave of the embedding.
_TURNS = (0.25, 64.0)


class UNet(nn.Module):
  """Down and up a pyramid of residual blocks, with a skip connection per level.

  Attributes:
    channels: feature maps of the levels, the coarsest first (as in `ConvNet`);
      the finest level has the image's own size.
    blocks: residual blocks per level, down and up each.
    groups: of the group norms; divides every number of channels.
    variance_scale: beta of the variance head.
    variance_floor: epsilon of the variance head.
    dtype: of the inputs of products; all else is float32.
    lowering: one of `layers.LOWERINGS`.
    num_classes: labels that a transition may be given; 0: none.
    bits: states are bits, and their logits the only head.
    self_conditioning: z holds the means that states were drawn around, too.
  """

  channels: Sequence[int] = (256, 128, 64)
  blocks: int = 1
  groups: int = 8
  variance_scale: float = 0.1
  variance_floor: float = 1e-4
  dtype: jnp.dtype = jnp.float32
  lowering: str = "native"
  num_classes: int = 0
  bits: bool = False
  self_conditioning: bool = False

  @nn.compact
  def __call__(
    self,
    z: Array,
    time: Array,
    train: bool,
    label: Array | None = None,
    seen: Array | None = None,
  ) -> Distribution:
    """One transition.

    Args:
      z: states, [B, H, W, C]; H and W divisible by 2 ** (len(channels) - 1).
      time: the step in (0, 1], scalar.
      train: not used; group norm knows one image only.
      label: see `condition`; not used without classes.
      seen: see `condition`; None where the network is shown nothing.

    Returns:
      p(. | z) over [B, H, W, C].
    """
    del train
    finest_first = tuple(reversed(self.channels))
    condition = self._condition(time, 4 * finest_first[0], label)
    h = self._conv(finest_first[0])(beside(2 * z - 1, seen))
    skips = []
    for level, features in enumerate(finest_first):
      if level:
        h = self._conv(features, stride=2)(h)
      h = self._level(h, condition, features)
      skips.append(h)
    for level, features in enumerate(self.channels):
      if level:
        h = self._conv(features)(_doubled(h))
      h = jnp.concatenate([h, skips.pop()], -1)
      h = self._level(h, condition, features)
    h = nn.silu(nn.GroupNorm(self.groups, dtype=jnp.float32)(h))
    shape = states_shape(z, self.self_conditioning)
    colors = count(self.bits) * shape[-1]
    raw = self._conv(colors, kernel_init=initializer(self.bits))(h)
    spread = self.variance_scale, self.variance_floor
    return to_distribution(raw, self.bits, shape, *spread)

  def _condition(self, time: Array, features: int, label: Array | None) -> Array:
    h = dense(features, self.dtype)(waves(time, features)[None])
    if self.num_classes:
      h = h + LabelTable(self.num_classes, features)(label).astype(h.dtype)
    return nn.silu(dense(features, self.dtype)(nn.silu(h)))

  def _level(self, h: Array, condition: Array, features: int) -> Array:
    for _ in range(self.blocks):
      h = _Block(features, self.groups, self.dtype, self.lowering)(h, condition)
    return h

  def _conv(self, features: int, **options) -> Conv:
    return Conv(features, dtype=self.dtype, lowering=self.lowering, **options)


class _Block(nn.Module):
  """Two convolutions around a scale and shift by time and label, and a shortcut."""

  features: int
  groups: int
  dtype: jnp.dtype
  lowering: str

  @nn.compact
  def __call__(self, x: Array, condition: Array) -> Array:
    """Maps [B, H, W, C] and [1 or B, D] to [B, H, W, features]."""
    conv = {"dtype": self.dtype, "lowering": self.lowering}
    h = nn.silu(nn.GroupNorm(self.groups, dtype=jnp.float32)(x))
    h = Conv(self.features, **conv)(h)
    h = nn.GroupNorm(self.groups, dtype=jnp.float32)(h)
    modulation = dense(2 * self.features, self.dtype)(condition)
    scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
    h = nn.silu(h * (1 + scale) + shift)
    # The last convolution starts at 0, so that a new block passes its input on.
    h = Conv(self.features, kernel_init=nn.initializers.zeros, **conv)(h)
    if x.shape[-1] != self.features:
      x = Conv(self.features, 1, **conv)(x)
    return x + h


def waves(time: Array, features: int) -> Array:
  """Sines and cosines of a time in (0, 1], [features], frequencies geometric."""
  angles = 2 * math.pi * time * jnp.geomspace(*_TURNS, features // 2)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


def _doubled(h: Array) -> Array:
  """Every pixel twice in both directions, [B, 2 H, 2 W, C]."""
  return jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
