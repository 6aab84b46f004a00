"""The multilayer perceptron of the MNIST and TFD experiments (section 3.5)."""

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
  to_multimodal,
)
from infusion_jax.networks.norm import StepBatchNorm
from infusion_jax.networks.products import dense

Array = jax.Array


class MLP(nn.Module):
  """d -> hidden -> ... -> (mean, variance); batch norm and ReLU between.

  Attributes:
    hidden_sizes: units of each hidden layer, (1200, 1200) in the thesis.
    variance_scale: beta of the variance head.
    variance_floor: epsilon of the variance head.
    dtype: of the inputs of products; all else is float32.
    num_classes: labels that a transition may be given; 0: none.
    bits: states are bits, and their logits the only head.
    self_conditioning: z holds the means that states were drawn around, too.
    latents: modes of a transition (`states.multimodal`); 1: it is one Gaussian.
    spread: whether several devices share a batch, see `StepBatchNorm`.
  """

  hidden_sizes: Sequence[int] = (1200, 1200)
  variance_scale: float = 0.1
  variance_floor: float = 1e-4
  dtype: jnp.dtype = jnp.float32
  num_classes: int = 0
  bits: bool = False
  self_conditioning: bool = False
  latents: int = 1
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
      z: states, [B, H, W, C].
      time: the step; not used, as only the batch norm differs from step to step.
      train: whether batch norm uses the statistics of this mini-batch.
      label: see `condition`; not used without classes.
      seen: see `condition`; None where the network is shown nothing.

    Returns:
      p(. | z) over [B, H, W, C].
    """
    del time
    h = beside(z, seen).reshape(z.shape[0], -1)
    for size in self.hidden_sizes:
      # No bias: the batch norm that follows takes out any constant.
      glorot = nn.initializers.glorot_uniform()
      h = dense(size, self.dtype, use_bias=False, kernel_init=glorot)(h)
      h = StepBatchNorm(spread=self.spread)(h, train)
      h = nn.relu(Modulation(self.num_classes)(h, label))
    shape = states_shape(z, self.self_conditioning)
    size = math.prod(shape[1:])
    # Both heads in one product: half the launches, the same arithmetic.
    size *= count(self.bits) * self.latents
    raw = dense(size, self.dtype, kernel_init=initializer(self.bits, self.latents))(h)
    scales = self.variance_scale, self.variance_floor
    if self.latents > 1:
      # All modes are equally probable at first.
      zeros = nn.initializers.zeros
      logits = dense(self.latents, self.dtype, kernel_init=zeros, name="modes")(h)
      return to_multimodal(raw, logits, shape, *scales)
    return to_distribution(raw, self.bits, shape, *scales)
