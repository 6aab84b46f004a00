"""The compiled part of a sweep: training programs over a leading axis of runs.

Runs of equal recipe differ in arrays alone (`state.Run`), so `vmap` makes one
program of them: one compilation, one copy of the images, batched matrix
products. What all runs agree on is not repeated: runs of one seed draw their
noise once for all of them, and each still sees the very numbers it would alone.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from infusion_jax import likelihood, sampling
from infusion_jax.chain import Infusion, Parameters
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import Network
from infusion_jax.sampling import Weights
from infusion_jax.training import epoch
from infusion_jax.training.state import Recipe, Run, TrainState, initial_state

Array = jax.Array
PyTree = Any

#: Where the axis of runs is in a stacked state: all runs take the same steps.
STATE_AXES = TrainState(
  step=None,
  parameters=0,
  optimizer=0,
  average=0,
  statistics=0,
  totals=0,
  failed=0,
  best=0,
)


class Stack(NamedTuple):
  """R runs as one.

  Attributes:
    run: leaves [R, ...] where runs differ, [...] where they agree.
    axes: of the leaves of `run`, in their order: 0 or None.
    keys: the runs' keys, [R].
  """

  run: Run
  axes: tuple[int | None, ...]
  keys: Array


def stack(runs: Sequence[Run]) -> Stack:
  """Stacks runs of equal recipe."""
  leaves = zip(*map(jax.tree.leaves, runs), strict=True)
  joined, axes = zip(*map(_stack_leaf, leaves), strict=True)
  run = jax.tree.structure(runs[0]).unflatten(joined)
  return Stack(run, axes, jnp.stack([run.key for run in runs]))


def _stack_leaf(leaves: Sequence[Array]) -> tuple[Array, int | None]:
  first, *others = map(_numbers, leaves)
  if all(np.array_equal(first, other) for other in others):
    return leaves[0], None
  return jnp.stack(leaves), 0


def _numbers(leaf: Array) -> np.ndarray:
  """The values of an array, or the data of keys."""
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def make_mesh() -> Mesh | None:
  """All local devices in a row along the axis of runs; None if there is one."""
  devices = jax.local_devices()
  if len(devices) == 1:
    return None
  axis_types = (AxisType.Auto,)
  return jax.make_mesh((len(devices),), ("runs",), axis_types, devices=devices)


def spread(tree: PyTree) -> PyTree:
  """Gives every device its share of the rows of a tree, whose leaves are [R, ...]."""
  mesh = make_mesh()
  return (
    jax.device_put(tree, NamedSharding(mesh, PartitionSpec("runs"))) if mesh else tree
  )


@functools.cache
def compiled(
  recipe: Recipe, axes: tuple[int | None, ...], mesh: Mesh | None
) -> "StackedProgram":
  """The jitted functions of stacked runs; equal arguments share a compilation."""
  return StackedProgram(recipe, axes, mesh)


class StackedProgram:
  """The functions of `epoch.Program` over R runs; states given are donated.

  `run` is a `Stack.run`, placed by `place_run`; what differs from run to run has a
  leading [R]. With a mesh, R is a multiple of its devices, each of which has its
  share of the runs and a copy of everything else.
  """

  def __init__(
    self, recipe: Recipe, axes: tuple[int | None, ...], mesh: Mesh | None
  ) -> None:
    """Wraps the functions; nothing is compiled before the first call.

    Args:
      recipe: the program of one run.
      axes: of the runs, see `Stack`.
      mesh: see `make_mesh`.
    """
    self._mesh = mesh
    self._axes = axes
    run = _run_structure().unflatten(axes)

    def bind(function: Callable, in_axes: PyTree, out_axes: PyTree = 0) -> Callable:
      options = {}
      if mesh:
        # Axes are a prefix of the outputs, and so are their shardings.
        options["out_shardings"] = jax.tree.map(
          self._sharding, out_axes, is_leaf=lambda axis: axis is None
        )
      donated = 0 if out_axes is STATE_AXES and in_axes[0] is STATE_AXES else ()
      mapped = jax.vmap(function, in_axes, out_axes)
      return jax.jit(mapped, donate_argnums=donated, **options)

    train = functools.partial(epoch.train_steps, recipe)
    measure = functools.partial(epoch.mean_terms, recipe)
    population = functools.partial(epoch.population_statistics, recipe)
    start = functools.partial(initial_state, recipe)
    self.train_steps = bind(train, (STATE_AXES, run, None, None), STATE_AXES)
    self.end_epoch = bind(epoch.end_epoch, (STATE_AXES, 0, None), STATE_AXES)
    self.mean_terms = bind(measure, (0, run.key, run.infusion, None))
    self.population_statistics = bind(population, (0, run.key, run.infusion, None))
    self.initial_state = bind(start, (0,), STATE_AXES)

  def place_run(self, run: Run) -> Run:
    """Puts the runs' numbers on the devices."""
    leaves, structure = jax.tree.flatten(run)
    placed = [
      self._place(leaf, axis) for leaf, axis in zip(leaves, self._axes, strict=True)
    ]
    return structure.unflatten(placed)

  def place_state(self, state: TrainState) -> TrainState:
    """Puts a stacked state on the devices, in buffers of its own."""
    rows = state._replace(step=None)
    placed = jax.tree.map(lambda leaf: self._place(jnp.array(leaf), 0), rows)
    return placed._replace(step=self._place(jnp.array(state.step), None))

  def place_images(self, images: np.ndarray) -> Array:
    """Puts images on every device."""
    return self._place(jnp.asarray(images), None)

  def place_keys(self, keys: Array) -> Array:
    """Puts one key per run on the devices."""
    return self._place(keys, 0)

  def _place(self, leaf: Array, axis: int | None) -> Array:
    return jax.device_put(leaf, self._sharding(axis)) if self._mesh else leaf

  def _sharding(self, axis: int | None) -> NamedSharding:
    spec = PartitionSpec() if axis is None else PartitionSpec("runs")
    return NamedSharding(self._mesh, spec)


def _run_structure() -> jax.tree_util.PyTreeDef:
  return jax.tree.structure(Run(0, Infusion(Gaussian(0, 0), 0, 0), 0, 0, 0))


def row(tree: PyTree, index: int) -> PyTree:
  """Run `index` of a stacked tree."""
  return jax.tree.map(lambda leaf: leaf[index], tree)


def starting_from(state: TrainState, index: int, parameters: Parameters) -> TrainState:
  """A stacked initial state in which one run starts from given parameters."""

  def put(stacked: Parameters) -> Parameters:
    return jax.tree.map(lambda s, own: s.at[index].set(own), stacked, parameters)

  return state._replace(
    parameters=put(state.parameters),
    average=None if state.average is None else put(state.average),
    best=state.best._replace(parameters=put(state.best.parameters)),
  )


def first_rows(state: TrainState, count: int) -> TrainState:
  """The first `count` runs of a stacked state."""
  rows = jax.tree.map(lambda leaf: leaf[:count], state._replace(step=None))
  return rows._replace(step=state.step)


def padded(state: TrainState, count: int) -> TrainState:
  """A stacked state with its last run repeated until there are `count` of them."""

  def pad(leaf: Array) -> Array:
    index = np.minimum(np.arange(count), leaf.shape[0] - 1)
    return leaf[index]

  rows = jax.tree.map(pad, state._replace(step=None))
  return rows._replace(step=state.step)


@functools.partial(jax.jit, static_argnames=("network", "num_chains", "chunk_size"))
def bounds(
  keys: Array,
  network: Network,
  weights: Weights,
  x: Array,
  *,
  num_chains: int,
  chunk_size: int,
) -> Array:
  """The lower bound of images under R models with fixed statistics, [R, N] nats.

  Args:
    keys: [N], one per image, the same for all models.
    network: of all models.
    weights: leaves [R, ...].
    x: [N, H, W, C].
    num_chains: infusion chains an image.
    chunk_size: chains an image and model held at a time.
  """

  def one(weights: Weights) -> Array:
    transition, steps = sampling.operator(network, weights, network.num_steps)
    return likelihood.estimate(
      keys,
      transition,
      steps,
      x,
      weights.infusion,
      num_chains=num_chains,
      chunk_size=chunk_size,
    ).bound

  return jax.vmap(one)(weights)


@functools.partial(jax.jit, static_argnames=("network",))
def sample_means(keys: Array, network: Network, weights: Weights) -> Array:
  """Pictures of R models, [R, B, H, W, C], from the same [B] keys."""

  def one(weights: Weights) -> Array:
    return sampling.predict(network, weights, keys, network.num_steps).mean

  return jax.vmap(one)(weights)
