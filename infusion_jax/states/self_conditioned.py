"""Gaussian states whose next transition sees the mean they were drawn around, too."""

import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Gaussian

Array = jax.Array


class SelfConditioned(Gaussian):
  """A Gaussian that hands its mean on (self-conditioning, Chen et al., 2023).

  The mean is a function of the states before, so that densities, bounds and annealing
  stay what they are, given all states before instead of the last one alone.
  """

  __slots__ = ()

  def seen(self, z: Array) -> Array:
    """State and mean, [..., H, W, 2 C]."""
    return jnp.concatenate([z, jnp.broadcast_to(self.mean, z.shape)], -1)
