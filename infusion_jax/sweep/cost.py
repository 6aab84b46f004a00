"""What a run will cost, before it starts: parameters, memory, arithmetic.

Nothing is computed or compiled: shapes are traced, and the arithmetic of one
transition is counted by XLA's own analysis of its program.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from infusion_jax import objectives
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Distribution
from infusion_jax.networks import Network
from infusion_jax.training.state import Recipe, initial_state

PyTree = Any

#: Arrays of a batch of images alive at one step of a chain, besides the network's:
#: target, two Gaussians, state, mask, noise and what they are combined into.
_CHAIN_ARRAYS = 10
#: A training step differentiates: one forward pass and two of its size backward.
_TRAINING_PASSES = 3


class Cost(NamedTuple):
  """What one run needs.

  Attributes:
    parameters: how many numbers are learned.
    state_bytes: parameters, their best, two moments, average, gradient, update.
    work_bytes: activations of a training step.
    data_bytes: of the images; shared by all runs on a device.
    flops_per_epoch: of training and validation.
  """

  parameters: int
  state_bytes: int
  work_bytes: int
  data_bytes: int
  flops_per_epoch: float

  @property
  def run_bytes(self) -> int:
    """All that is a run's own."""
    return self.state_bytes + self.work_bytes


@functools.lru_cache(maxsize=32)
def estimate(recipe: Recipe, dataset: Dataset) -> Cost:
  """The cost of one run of a recipe.

  Args:
    recipe: the program.
    dataset: its data.

  Returns:
    An estimate; the memory is what XLA reports for the compiled step or more.

  Raises:
    UserError: it trains another method than infusion.
  """
  if recipe.peer:
    raise UserError(
      f"train.method is {recipe.peer.title!r}; a sweep trains infusion alone"
    )
  network = recipe.network
  parameters, _ = jax.eval_shape(network.init, jax.random.key(0))
  state = jax.eval_shape(functools.partial(initial_state, recipe), jax.random.key(0))
  learned = _bytes(parameters)
  forward = flops(network, recipe.batch_size) / recipe.batch_size
  chains = _TRAINING_PASSES * len(dataset.train) + len(dataset.validation)
  return Cost(
    parameters=_count(parameters),
    # The gradient, and the update made of it.
    state_bytes=_bytes(state) + 2 * learned,
    work_bytes=_work_bytes(recipe),
    data_bytes=sum(
      images.nbytes for images in (dataset.train, dataset.validation, dataset.test)
    ),
    flops_per_epoch=forward * network.num_steps * chains,
  )


def flops(network: Network, batch_size: int) -> float:
  """Floating-point operations of one transition of a batch, forward."""
  arguments = _step_arguments(network, batch_size)
  lowered = jax.jit(functools.partial(_forward, network)).lower(*arguments)
  counted = lowered.cost_analysis() or {}
  # Two a parameter and image where the backend does not count.
  return counted.get("flops", 2.0 * batch_size * _count(arguments[0]))


def most_runs(cost: Cost, limit: int, devices: int = 1) -> int:
  """How many runs fit on the devices together; 0 if not even one.

  Args:
    cost: of one run.
    limit: bytes of one device.
    devices: how many, each with its share of the runs and a copy of the data.
  """
  return max(0, (limit - cost.data_bytes) // cost.run_bytes) * devices


def total_bytes(cost: Cost, runs: int, devices: int = 1) -> int:
  """Bytes of a group on the device that has most runs."""
  return cost.data_bytes + -(-runs // devices) * cost.run_bytes


def _forward(network: Network, parameters: PyTree, z: jax.Array) -> Distribution:
  first = jax.tree.map(lambda leaf: leaf[0], network.steps(parameters.per_step))
  return network.train(parameters.shared, first, z)[0]


def _work_bytes(recipe: Recipe) -> int:
  """Residuals of the backward pass and the arrays of the chain around it."""
  network = recipe.network

  def residuals(parameters: PyTree, z: jax.Array) -> list[jax.Array]:
    def loss(parameters: PyTree) -> jax.Array:
      return _forward(network, parameters, z).log_density(z).mean()

    return jax.tree.leaves(jax.vjp(loss, parameters)[1])

  chains = dict(recipe.objective_options).get("num_chains", 1)
  parameters, z = _step_arguments(network, recipe.batch_size * chains)
  # The parameters are among the residuals, but are counted as state.
  kept = max(0, _bytes(jax.eval_shape(residuals, parameters, z)) - _bytes(parameters))
  around = _CHAIN_ARRAYS * _bytes(z)
  steps = network.num_steps if recipe.objective in objectives.THROUGH_TIME else 1
  return steps * (kept + around)


def _step_arguments(network: Network, batch_size: int) -> tuple[PyTree, PyTree]:
  parameters, _ = jax.eval_shape(network.init, jax.random.key(0))
  shape = (batch_size, *network.image_shape)
  return parameters, jax.ShapeDtypeStruct(shape, jnp.float32)


def _count(tree: PyTree) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _bytes(tree: PyTree) -> int:
  return sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
  )
