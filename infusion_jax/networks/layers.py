"""Convolutions in two lowerings of one meaning.

XLA runs its convolution on a CPU 10 to 20 times slower inside a compiled loop
than outside (jax issue 12868), and training is nothing but loops: over the
chain, over mini-batches. Unrolling the chain does not help while the loop over
mini-batches stands. So on a CPU a convolution is gathered into patches and
multiplied as a matrix, which is as fast inside a loop as outside. Parameters
are the same either way, and so are checkpoints.

CPU time of a training step on two busy cores (32x32 colour images, 32-16-8 channels,
T = 5, 20 images, steps inside a scan): XLA's own 0.27 s, with the chain unrolled
0.30 s; as matrices 0.093 s, with the chain unrolled 0.064 s.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.networks.products import product

Array = jax.Array

#: How a convolution is computed: XLA's own, or as a product of matrices.
LOWERINGS = ("native", "matmul")

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def default_lowering() -> str:
  """The faster one here: "matmul" where JAX computes on a CPU, else "native"."""
  return "matmul" if jax.default_backend() == "cpu" else "native"


def conv(
  x: Array,
  kernel: Array,
  stride: int,
  lowering: str,
  dtype: jnp.dtype = jnp.float32,
) -> Array:
  """A convolution with "SAME" padding.

  Args:
    x: [B, H, W, C].
    kernel: [K, L, C, F].
    stride: in both directions.
    lowering: one of `LOWERINGS`.
    dtype: of the inputs of products; XLA's own convolution rounds its result, too.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), F].
  """
  if lowering == "native":
    return jax.lax.conv_general_dilated(
      x.astype(dtype),
      kernel.astype(dtype),
      (stride, stride),
      "SAME",
      dimension_numbers=_DIMENSIONS,
    )
  pads = [
    _same_padding(size, taps, stride)
    for size, taps in zip(x.shape[1:3], kernel.shape[:2], strict=True)
  ]
  return _patches_product(x, kernel, stride, pads, dtype)


def transposed_conv(
  x: Array, kernel: Array, lowering: str, dtype: jnp.dtype = jnp.float32
) -> Array:
  """A transposed convolution of stride 2, "SAME": it doubles height and width.

  As a product of matrices it never meets the zeros between the pixels: each of
  the four phases of the result is an ordinary convolution with every second
  row and column of the kernel.

  Args:
    x: [B, H, W, C].
    kernel: [K, K, C, F] with K at least 2.
    lowering: one of `LOWERINGS`.
    dtype: see `conv`.

  Returns:
    [B, 2 H, 2 W, F].
  """
  if lowering == "native":
    return jax.lax.conv_transpose(
      x.astype(dtype),
      kernel.astype(dtype),
      (2, 2),
      "SAME",
      dimension_numbers=_DIMENSIONS,
    )
  phases, pad = _phases(kernel)
  y = _patches_product(x, phases, 1, [pad, pad], dtype)
  batch, height, width, _ = y.shape
  y = y.reshape(batch, height, width, 2, 2, kernel.shape[-1])
  return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, -1)


class Conv(nn.Module):
  """`conv` as a layer.

  Attributes:
    features: F.
    kernel_size: K, square.
    stride: in both directions.
    use_bias: whether a bias is added.
    dtype: of the inputs of products; parameters and result are float32.
    lowering: one of `LOWERINGS`.
    kernel_init: initializer of the kernel [K, K, C, F].
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  lowering: str = "native"
  kernel_init: Callable[..., Array] = nn.initializers.glorot_uniform()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), F]."""
    options = {"lowering": self.lowering, "dtype": self.dtype}
    function = functools.partial(conv, stride=self.stride, **options)
    return _apply(self, function, x)


class TransposedConv(nn.Module):
  """`transposed_conv` as a layer; attributes as those of `Conv`."""

  features: int
  kernel_size: int = 5
  use_bias: bool = True
  dtype: jnp.dtype = jnp.float32
  lowering: str = "native"
  kernel_init: Callable[..., Array] = nn.initializers.glorot_uniform()

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps [B, H, W, C] to [B, 2 H, 2 W, F]."""
    options = {"lowering": self.lowering, "dtype": self.dtype}
    return _apply(self, functools.partial(transposed_conv, **options), x)


def _apply(
  layer: Conv | TransposedConv, function: Callable[[Array, Array], Array], x: Array
) -> Array:
  shape = (layer.kernel_size, layer.kernel_size, x.shape[-1], layer.features)
  kernel = layer.param("kernel", layer.kernel_init, shape, jnp.float32)
  single = jnp.promote_types(layer.dtype, jnp.float32)
  y = function(x.astype(single), kernel.astype(single)).astype(single)
  if layer.use_bias:
    bias = layer.param("bias", nn.initializers.zeros, shape[-1:], jnp.float32)
    y = y + bias.astype(single)
  return y


def _patches_product(
  x: Array,
  kernel: Array,
  stride: int,
  pads: list[tuple[int, int]],
  dtype: jnp.dtype,
) -> Array:
  """Gathers the window of every result pixel, and multiplies once."""
  rows, columns, _, features = kernel.shape
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  height = (x.shape[1] - rows) // stride + 1
  width = (x.shape[2] - columns) // stride + 1
  windows = [
    x[:, i : i + stride * height : stride, j : j + stride * width : stride]
    for i in range(rows)
    for j in range(columns)
  ]
  patches = windows[0] if len(windows) == 1 else jnp.concatenate(windows, -1)
  return product(patches, kernel.reshape(-1, features), dtype)


def _same_padding(size: int, taps: int, stride: int) -> tuple[int, int]:
  """What "SAME" adds before and after an axis; the odd one comes after."""
  total = max((-(-size // stride) - 1) * stride + taps - size, 0)
  return total // 2, total - total // 2


def _phases(kernel: Array) -> tuple[Array, tuple[int, int]]:
  """The kernel of a transposed convolution as one for all four phases.

  With "SAME" padding result pixel 2 p + a is the sum over taps m of
  kernel[m] x[p + (a + m - before) / 2], where the index is whole. Zeros in
  front make `before` odd, zeros at the end the length even; then the odd taps
  belong to a = 0, the even ones to a = 1, and both start at the same x.

  Returns:
    [R, R, C, 4 F], the phases (0, 0), (0, 1), (1, 0), (1, 1) side by side, and the
    padding it needs.
  """
  size, _, channels, features = kernel.shape
  before = -(-size // 2)
  front = (before + 1) % 2
  taps = -(-(size + front) // 2)
  ends = (front, 2 * taps - size - front)
  kernel = jnp.pad(kernel, (ends, ends, (0, 0), (0, 0)))
  kernel = kernel.reshape(taps, 2, taps, 2, channels, features)[:, ::-1, :, ::-1]
  kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(taps, taps, channels, -1)
  first = (before + front - 1) // 2
  return kernel, (first, taps - 1 - first)
