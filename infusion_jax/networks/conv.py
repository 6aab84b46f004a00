"""The transposed-convolution operator of CIFAR-10 and CelebA (section 3.5).

The thesis takes the generator of Salimans et al. (2016): a dense layer to a
small grid, then transposed convolutions that double it. Its input there is the
flattened image, which is this module's default, too.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Distribution
from infusion_jax.networks.condition import Modulation, beside
from infusion_jax.networks.heads import (
  count,
  initializer,
  states_shape,
  to_distribution,
)
from infusion_jax.networks.layers import Conv, TransposedConv
from infusion_jax.networks.norm import StepBatchNorm
from infusion_jax.networks.products import dense

Array = jax.Array


class ConvNet(nn.Module):
  """Image -> dense -> coarsest grid -> doubled up to the image -> two heads.

  Per-step batch norm and ReLU follow every layer but the last; layers before a
  batch norm have no bias. The grid of the dense layer is the image's divided by
  2 ** len(channels).

  Attributes:
    channels: feature maps of the hidden grids, the coarsest first: 512, 256, 128
      make 32x32 images from 4x4, one more makes 64x64 ones.
    kernel_size: of all convolutions, 5 in the thesis.
    encoder: "flat": the dense layer sees all pixels; "conv": it sees what
      len(channels) convolutions of stride 2 made of them, each with
      channels[-1] maps.
    variance_scale: beta of the variance head.
    variance_floor: epsilon of the variance head.
    dtype: of the inputs of products; all else is float32.
    lowering: one of `layers.LOWERINGS`.
    num_classes: labels that a transition may be given; 0: none.
    bits: states are bits, and their logits the only head.
    self_conditioning: z holds the means that states were drawn around, too.
    spread: whether several devices share a batch, see `StepBatchNorm`.
  """

  channels: Sequence[int] = (512, 256, 128)
  kernel_size: int = 5
  encoder: str = "flat"
  variance_scale: float = 0.1
  variance_floor: float = 1e-4
  dtype: jnp.dtype = jnp.float32
  lowering: str = "native"
  num_classes: int = 0
  bits: bool = False
  self_conditioning: bool = False
  spread: bool = False

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
      z: states, [B, H, W, C]; H and W divisible by 2 ** len(channels).
      time: the step; not used, as only the batch norm differs from step to step.
      train: whether batch norm uses the statistics of this mini-batch.
      label: see `condition`; not used without classes.
      seen: see `condition`; None where the network is shown nothing.

    Returns:
      p(. | z) over [B, H, W, C].
    """
    del time
    shape = states_shape(z, self.self_conditioning)
    batch, height, width, colors = shape
    scale = 2 ** len(self.channels)
    grid = (height // scale, width // scale, self.channels[0])
    h = self._encoded(beside(z, seen), train, label).reshape(batch, -1)
    glorot = nn.initializers.glorot_uniform()
    h = dense(math.prod(grid), self.dtype, use_bias=False, kernel_init=glorot)(h)
    h = self._activated(h, train, label).reshape(batch, *grid)
    for features in self.channels[1:]:
      h = self._doubling(features, use_bias=False)(h)
      h = self._activated(h, train, label)
    colors *= count(self.bits)
    raw = self._doubling(colors, kernel_init=initializer(self.bits))(h)
    scales = self.variance_scale, self.variance_floor
    return to_distribution(raw, self.bits, shape, *scales)

  def _encoded(self, z: Array, train: bool, label: Array | None) -> Array:
    if self.encoder == "flat":
      return z
    for _ in self.channels:
      z = Conv(
        self.channels[-1],
        self.kernel_size,
        stride=2,
        use_bias=False,
        dtype=self.dtype,
        lowering=self.lowering,
      )(z)
      z = self._activated(z, train, label)
    return z

  def _activated(self, h: Array, train: bool, label: Array | None) -> Array:
    h = StepBatchNorm(spread=self.spread)(h, train)
    return nn.relu(Modulation(self.num_classes)(h, label))

  def _doubling(self, features: int, **options) -> TransposedConv:
    return TransposedConv(
      features, self.kernel_size, dtype=self.dtype, lowering=self.lowering, **options
    )
