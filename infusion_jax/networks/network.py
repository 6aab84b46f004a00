"""A transition operator over time: one module, T steps of its own parameters."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.chain import Parameters, Step
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks.norm import STATISTICS, STEP

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Network:
  """A Flax module for one step, and what repeats it over T of them.

  `train` and `fixed` are operators of the chain, equal for equal networks.
  `Partial(network.fixed, shared)` is a transition and a pytree that carries the
  weights: a jitted function can take it as an argument and is compiled once for all
  weights.

  Attributes:
    module: called as `module(z, time, train)`, returns a Gaussian; hashable.
    image_shape: (H, W, C).
    num_steps: T.
  """

  module: nn.Module
  image_shape: tuple[int, int, int]
  num_steps: int

  def init(self, key: Array) -> tuple[Parameters, PyTree]:
    """Initial parameters, and statistics (mean 0, variance 1) [T, ...]."""

    # Compiled, it draws the parameters and leaves out the forward pass.
    @jax.jit
    def draw(key: Array) -> PyTree:
      z = jnp.zeros((1, *self.image_shape))
      return self.module.init(key, z, jnp.zeros(()), False)

    variables = draw(key)
    return (
      Parameters(variables.get("params", {}), self._repeat(variables.get(STEP, {}))),
      self._repeat(variables.get(STATISTICS, {})),
    )

  @property
  def train(self) -> "Training":
    """The operator with the statistics of the mini-batch, which it reports."""
    return Training(self)

  @property
  def fixed(self) -> "Fixed":
    """The operator with given statistics: images do not see each other."""
    return Fixed(self)

  def steps(self, per_step: PyTree, statistics: PyTree = None) -> Step:
    """What a chain of T steps scans over, leaves [T, ...]."""
    return Step(per_step, jnp.arange(self.num_steps), statistics)

  def time(self, index: Array) -> Array:
    """The step as a number in (0, 1]: t / T."""
    return (index + 1) / self.num_steps

  def _repeat(self, tree: PyTree) -> PyTree:
    return jax.tree.map(
      lambda leaf: jnp.repeat(leaf[None], self.num_steps, axis=0), tree
    )


# Methods of two equal networks are not equal, which would compile programs anew.


@dataclasses.dataclass(frozen=True)
class Training:
  """One step with the statistics of the mini-batch [B, H, W, C], which it reports."""

  network: Network

  def __call__(self, shared: PyTree, step: Step, z: Array) -> tuple[Gaussian, PyTree]:
    """See `chain.Operator`."""
    variables = {"params": shared, STEP: step.per_step}
    p, report = self.network.module.apply(
      variables, z, self.network.time(step.index), True, mutable=[STATISTICS]
    )
    return p, report.get(STATISTICS, {})


@dataclasses.dataclass(frozen=True)
class Fixed:
  """One step with given statistics: images do not see each other."""

  network: Network

  def __call__(self, shared: PyTree, step: Step, z: Array) -> tuple[Gaussian, None]:
    """See `chain.Operator`."""
    variables = {"params": shared, STEP: step.per_step, STATISTICS: step.statistics}
    time = self.network.time(step.index)
    return self.network.module.apply(variables, z, time, False), None
