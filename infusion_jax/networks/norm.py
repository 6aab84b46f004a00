"""Batch normalization with parameters and statistics of the step's own.

A network module describes one step. What it keeps per step lives in two
variable collections of its own, `STEP` (scale and bias, learned) and
`STATISTICS` (mean and variance), which get a leading [T] axis outside and are
scanned over: step t sees and reports row t, without a gather or a scatter.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

STEP = "step"
STATISTICS = "batch_stats"


class StepBatchNorm(nn.Module):
  """Batch norm over all axes but the last.

  Attributes:
    epsilon: added to the variance (1e-4 in the authors' code).
    dtype: of the result; statistics are computed in float32 at least.
    spread: whether several devices share the batch. The gradient then leaves out a
      term that is zero but for rounding, and the devices send each other one message
      where they would send two.
  """

  epsilon: float = 1e-4
  dtype: jnp.dtype = jnp.float32
  spread: bool = False

  @nn.compact
  def __call__(self, h: Array, train: bool) -> Array:
    """Normalizes [..., F].

    Args:
      h: activations.
      train: True takes mean and variance from `h` and puts them in the
        statistics (make that collection mutable to read them); False uses the
        statistics given.

    Returns:
      Of the shape of `h`.
    """
    shape = h.shape[-1:]
    scale = self.variable(STEP, "scale", jnp.ones, shape).value
    bias = self.variable(STEP, "bias", jnp.zeros, shape).value
    mean = self.variable(STATISTICS, "mean", jnp.zeros, shape)
    variance = self.variable(STATISTICS, "variance", jnp.ones, shape)
    h = h.astype(jnp.promote_types(h.dtype, jnp.float32))
    if train and not self.is_initializing():
      axes = tuple(range(h.ndim - 1))
      mean.value = h.mean(axes)
      # About the mean: E[h^2] - E[h]^2 loses its digits in float32.
      # The sum of squares is smallest there: its derivative in the mean is zero.
      middle = jax.lax.stop_gradient(mean.value) if self.spread else mean.value
      variance.value = jnp.square(h - middle).mean(axes)
    factor = scale * jax.lax.rsqrt(variance.value + self.epsilon)
    return ((h - mean.value) * factor + bias).astype(self.dtype)
