"""The multilayer perceptron of the MNIST and TFD experiments (section 3.5)."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Gaussian
from infusion_jax.networks.heads import side_by_side, to_gaussian
from infusion_jax.networks.norm import StepBatchNorm

Array = jax.Array


class MLP(nn.Module):
  """d -> hidden -> ... -> (mean, variance); batch norm and ReLU between.

  Attributes:
    hidden_sizes: units of each hidden layer, (1200, 1200) in the thesis.
    variance_scale: beta of the variance head.
    variance_floor: epsilon of the variance head.
    dtype: of the matrix products; parameters and the Gaussian stay float32.
  """

  hidden_sizes: Sequence[int] = (1200, 1200)
  variance_scale: float = 0.1
  variance_floor: float = 1e-4
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, z: Array, time: Array, train: bool) -> Gaussian:
    """One transition.

    Args:
      z: states, [B, H, W, C].
      time: the step; not used, as only the batch norm differs from step to step.
      train: whether batch norm uses the statistics of this mini-batch.

    Returns:
      p(. | z) over [B, H, W, C].
    """
    del time
    h = z.reshape(z.shape[0], -1)
    for size in self.hidden_sizes:
      # No bias: the batch norm that follows takes out any constant.
      h = nn.Dense(
        size,
        use_bias=False,
        dtype=self.dtype,
        kernel_init=nn.initializers.glorot_uniform(),
      )(h)
      h = nn.relu(StepBatchNorm(dtype=self.dtype)(h, train))
    size = math.prod(z.shape[1:])
    # Both heads in one product: half the launches, the same arithmetic.
    raw = nn.Dense(2 * size, dtype=self.dtype, kernel_init=side_by_side)(h)
    raw_mean, raw_variance = jnp.split(raw, 2, axis=-1)
    return to_gaussian(
      raw_mean.reshape(z.shape),
      raw_variance.reshape(z.shape),
      self.variance_scale,
      self.variance_floor,
    )
