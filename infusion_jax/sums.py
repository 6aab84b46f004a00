"""Sums of values that cost something to compute.

On a CPU XLA hands a sum to YNNPACK together with the element-wise operations
before it, and that library computes those one after the other on a single core: the
sum of a batch of log-densities took 0.98 ms where XLA's own loop takes 0.08 ms
(jaxlib 0.10.2, [128, 784], 2 cores), a tenth of a training step. A select is unknown
to it and stays outside, with all that comes before.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def shielded(values: Array) -> Array:
  """The same values, computed before whatever reduction comes next.

  Args:
    values: of any shape; NaN and infinities stay what they are.

  Returns:
    The values. Elsewhere than on a CPU this costs nothing: it is fused.
  """
  return jnp.where(jnp.isnan(values), jnp.nan, values)


def over(values: Array, axis: int | tuple[int, ...] | None = None) -> Array:
  """Sums `shielded(values)` over some axes, by default all."""
  return shielded(values).sum(axis)


def per_image(values: Array) -> Array:
  """Sums everything but the batch axis: [B, ...] to [B]."""
  return over(values.reshape(values.shape[0], -1), -1)
