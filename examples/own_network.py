"""A network of your own, in a file of your own.

  python -m experiments.train --config=digits --workdir=runs/own \\
      --config.model.name=examples/own_network.py:TimeMLP
  python -m experiments.sample --workdir=runs/own --code=examples/own_network.py

A network is a Flax module called as module(z, time, train) that returns a Gaussian.
Its fields take the values of the keys they are called like: hidden_sizes that of
model.hidden_sizes, variance_floor that of chain.variance_floor, and so on.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import StepBatchNorm
from infusion_jax.networks.heads import to_gaussian


class TimeMLP(nn.Module):
  """Two heads on an MLP that is told the time, and that begins at the state itself."""

  hidden_sizes: Sequence[int] = (256, 256)
  variance_scale: float = 0.1
  variance_floor: float = 1e-4

  @nn.compact
  def __call__(self, z: jax.Array, time: jax.Array, train: bool) -> Gaussian:
    """One transition from states [B, H, W, C] at time t / T."""
    flat = z.reshape(len(z), -1)
    h = jnp.concatenate([flat, jnp.full((len(z), 1), time)], axis=1)
    for size in self.hidden_sizes:
      h = nn.silu(StepBatchNorm()(nn.Dense(size, use_bias=False)(h), train))
    raw = nn.Dense(2 * math.prod(z.shape[1:]))(h).reshape(len(z), 2, *z.shape[1:])
    logits = jnp.log(jnp.clip(z, 0.01, 0.99) / (1 - jnp.clip(z, 0.01, 0.99)))
    return to_gaussian(
      logits + raw[:, 0], raw[:, 1], self.variance_scale, self.variance_floor
    )
