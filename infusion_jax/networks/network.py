"""A transition operator over time: one module, T steps of its own parameters."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from infusion_jax.chain import Parameters, Transition
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks.norm import STATISTICS, STEP

Array = jax.Array
PyTree = Any


class Steps(NamedTuple):
  """The rows a chain scans over, every leaf [T, ...].

  Attributes:
    per_step: batch-norm scale and bias.
    index: 0 ... T-1.
    statistics: batch-norm mean and variance, for `Network.fixed`.
  """

  per_step: PyTree
  index: Array
  statistics: PyTree


@dataclasses.dataclass(frozen=True)
class Network:
  """A Flax module for one step, and what repeats it over T of them.

  The transitions it makes are pytrees that carry the weights: a jitted function
  can take one as an argument and is compiled once for all weights.

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

  def train(
    self, shared: PyTree, own: PyTree, index: Array, z: Array
  ) -> tuple[Gaussian, PyTree]:
    """One step with mini-batch statistics, which it reports (an `Operator`)."""
    variables = {"params": shared, STEP: own}
    p, report = self.module.apply(
      variables, z, self._time(index), True, mutable=[STATISTICS]
    )
    return p, report.get(STATISTICS, {})

  def training(self, shared: PyTree) -> Transition:
    """The transition with mini-batch statistics, over `steps(per_step)`."""
    return Partial(self._training_step, shared)

  def fixed(self, shared: PyTree) -> Transition:
    """The transition with given statistics: images do not see each other."""
    return Partial(self._fixed_step, shared)

  def _training_step(
    self, shared: PyTree, step: Steps, z: Array
  ) -> tuple[Gaussian, PyTree]:
    return self.train(shared, step.per_step, step.index, z)

  def _fixed_step(self, shared: PyTree, step: Steps, z: Array) -> tuple[Gaussian, None]:
    variables = {"params": shared, STEP: step.per_step, STATISTICS: step.statistics}
    return self.module.apply(variables, z, self._time(step.index), False), None

  def steps(self, per_step: PyTree, statistics: PyTree = None) -> Steps:
    """What a chain of T steps scans over."""
    return Steps(per_step, jnp.arange(self.num_steps), statistics)

  def _time(self, index: Array) -> Array:
    """The step as a number in (0, 1]: t / T."""
    return (index + 1) / self.num_steps

  def _repeat(self, tree: PyTree) -> PyTree:
    return jax.tree.map(
      lambda leaf: jnp.repeat(leaf[None], self.num_steps, axis=0), tree
    )
