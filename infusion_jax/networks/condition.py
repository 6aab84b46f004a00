"""How a network is told a condition.

What is seen of an image stands beside the state, as further channels (`beside`). A
label is one table a layer, zero at the start.

A network of K classes knows labels 0 ... K - 1, and K for "none". After a batch norm
the label's row scales and shifts every feature; the U-Net adds it to the embedding of
the time, which does the same there. A table of zeros changes nothing, so that training
begins with the unconditional network.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def beside(z: Array, seen: Array | None) -> Array:
  """States [B, H, W, C], and what is seen of their images [B, H, W, C'] beside them."""
  return z if seen is None else jnp.concatenate([z, seen.astype(z.dtype)], axis=-1)


class LabelTable(nn.Module):
  """One row of features for each label and for none.

  Attributes:
    num_classes: K.
    features: F.
  """

  num_classes: int
  features: int

  @nn.compact
  def __call__(self, label: Array) -> Array:
    """Labels [B] or a scalar, in 0 ... K, to rows [B, F] or [1, F]."""
    shape = (self.num_classes + 1, self.features)
    table = self.param("rows", nn.initializers.zeros, shape, jnp.float32)
    return table[jnp.atleast_1d(label)]


class Modulation(nn.Module):
  """Scales and shifts features by the label's own numbers.

  Attributes:
    num_classes: K; 0: there are no labels, and nothing happens.
  """

  num_classes: int

  @nn.compact
  def __call__(self, h: Array, label: Array | None) -> Array:
    """Activations [B, ..., F], of the label [B] or a scalar."""
    if not self.num_classes:
      return h
    rows = LabelTable(self.num_classes, 2 * h.shape[-1])(label)
    rows = rows.reshape(len(rows), *[1] * (h.ndim - 2), -1).astype(h.dtype)
    scale, shift = jnp.split(rows, 2, axis=-1)
    return h * (1 + scale) + shift
