"""The compiled part of a sweep: training programs over a leading axis of runs.

Runs of equal recipe differ in arrays alone (`state.Run`), so `vmap` makes one
program of them: one compilation, one copy of the images, batched matrix
products. What all runs agree on is not repeated: runs of one seed draw their
noise once for all of them, and each still sees the very numbers it would alone.
On CPUs the same program takes the runs of a core in turn (`chosen_together`).
"""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from infusion_jax import likelihood, sampling
from infusion_jax.chain import Infusion, Parameters
from infusion_jax.networks import Network
from infusion_jax.sampling import Weights
from infusion_jax.training import programs
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


def device_count(runs: int) -> int:
  """Devices of this machine that runs are spread over, with as equal shares as can be.

  Eight devices take 12 runs as six pairs: a further one would shorten nothing.
  """
  rounds = -(-runs // jax.local_device_count())
  return -(-runs // rounds)


def make_mesh(runs: int) -> Mesh | None:
  """`device_count(runs)` devices along the axis of runs; None if it is one."""
  count = device_count(runs)
  if count == 1:
    return None
  devices = jax.local_devices()[:count]
  return jax.make_mesh((count,), ("runs",), (AxisType.Auto,), devices=devices)


def filled_up(rows: Sequence[Any]) -> list[Any]:
  """Rows, the last one repeated until all devices have equal shares."""
  return [*rows, *rows[-1:] * (-len(rows) % device_count(len(rows)))]


def spread(tree: PyTree, mesh: Mesh | None) -> PyTree:
  """Gives every device its share of the rows of a tree, whose leaves are [R, ...]."""
  return jax.device_put(tree, NamedSharding(mesh, _spec(0))) if mesh else tree


def chosen_together(asked: int | None) -> int:
  """How many runs a device computes at once: as asked, or as it should; 0: all its own.

  An accelerator is filled by large batched products. A CPU core is filled by a
  single run, whose weights then stay in its cache: there a device takes its runs
  in turn, and devices (one a core, see `use_cores`) work side by side.
  """
  if asked is not None:
    return asked
  return 1 if jax.default_backend() == "cpu" else 0


def use_cores() -> None:
  """Makes every CPU core a device; without effect once JAX has looked at devices."""
  with contextlib.suppress(RuntimeError):
    jax.config.update("jax_num_cpu_devices", _cores())


def _cores() -> int:
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@functools.cache
def compiled(
  recipe: Recipe, axes: tuple[int | None, ...], mesh: Mesh | None, together: int = 0
) -> "StackedProgram":
  """The jitted functions of stacked runs; equal arguments share a compilation."""
  return StackedProgram(recipe, axes, mesh, together)


class StackedProgram:
  """The functions of `epoch.Program` over R runs; states given are donated.

  `run` is a `Stack.run`, placed by `place_run`; what differs from run to run has a
  leading [R]. With a mesh, R is a multiple of its devices, each of which has its
  share of the runs and a copy of everything else.
  """

  def __init__(
    self,
    recipe: Recipe,
    axes: tuple[int | None, ...],
    mesh: Mesh | None,
    together: int = 0,
  ) -> None:
    """Wraps the functions; nothing is compiled before the first call.

    Args:
      recipe: the program of one run.
      axes: of the runs, see `Stack`.
      mesh: see `make_mesh`.
      together: how many runs a device computes at once; 0: all.
    """
    self._mesh = mesh
    self._axes = axes
    run = _run_structure(recipe.network).unflatten(axes)

    def bind(function: Callable, in_axes: PyTree, out_axes: PyTree = 0) -> Callable:
      mapped = over_runs(function, in_axes, out_axes, mesh, together)
      donated = 0 if out_axes is STATE_AXES and in_axes[0] is STATE_AXES else ()
      return jax.jit(mapped, donate_argnums=donated)

    train = functools.partial(programs.train_steps, recipe)
    measure = functools.partial(programs.mean_terms, recipe)
    population = functools.partial(programs.population_statistics, recipe)
    start = functools.partial(initial_state, recipe)
    self.train_steps = bind(train, (STATE_AXES, run, None, None, None), STATE_AXES)
    self.end_epoch = bind(programs.end_epoch, (STATE_AXES, 0, None), STATE_AXES)
    # The last two are images and labels, the same for all.
    measured = (0, run.key, run.infusion, None, None)
    self.mean_terms = bind(measure, measured)
    self.population_statistics = bind(population, measured)
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

  def place_labels(self, labels: np.ndarray | None) -> Array | None:
    """Puts labels, if there are any, on every device."""
    return None if labels is None else self.place_images(labels)

  def place_keys(self, keys: Array) -> Array:
    """Puts one key per run on the devices."""
    return self._place(keys, 0)

  def _place(self, leaf: Array, axis: int | None) -> Array:
    return jax.device_put(leaf, self._sharding(axis)) if self._mesh else leaf

  def _sharding(self, axis: int | None) -> NamedSharding:
    return NamedSharding(self._mesh, _spec(axis))


def _run_structure(network: Network) -> jax.tree_util.PyTreeDef:
  infusion = Infusion(network.of_states(0), 0, 0, network.proposal)
  return jax.tree.structure(Run(0, infusion, 0, 0))


def over_runs(
  function: Callable,
  in_axes: PyTree,
  out_axes: PyTree,
  mesh: Mesh | None = None,
  together: int = 0,
) -> Callable:
  """`function` over a leading axis of runs.

  Args:
    function: of one run.
    in_axes: of its arguments as in `jax.vmap`: 0 or None.
    out_axes: of its result; what has None is the same for all runs.
    mesh: devices that share the runs; None: one device.
    together: how many runs a device computes at once; 0: all.

  Returns:
    The function of all runs.
  """
  if together:
    inner = _in_turn(function, in_axes, out_axes, together)
  else:
    inner = jax.vmap(function, in_axes, out_axes)
  if not mesh:
    return inner
  return jax.shard_map(
    inner,
    mesh=mesh,
    in_specs=_specs(in_axes),
    out_specs=_specs(out_axes),
    # Every device computes alike what has no axis of runs.
    check_vma=False,
  )


def _specs(axes: PyTree) -> PyTree:
  return jax.tree.map(_spec, axes, is_leaf=lambda axis: axis is None)


def _spec(axis: int | None) -> PartitionSpec:
  return PartitionSpec() if axis is None else PartitionSpec("runs")


def _in_turn(
  function: Callable, in_axes: tuple, out_axes: PyTree, together: int
) -> Callable:
  """`jax.vmap` over some runs at a time."""

  def mapped(*arguments: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(arguments)
    own = jax.tree.leaves(_has_rows(in_axes, arguments))

    def one(rows: list[Array]) -> PyTree:
      row = iter(rows)
      filled = [next(row) if o else leaf for leaf, o in zip(leaves, own, strict=True)]
      return function(*structure.unflatten(filled))

    rows = [leaf for leaf, o in zip(leaves, own, strict=True) if o]
    size = together if together > 1 else None
    results = jax.lax.map(one, rows, batch_size=size)
    return jax.tree.map(
      lambda leaf, o: leaf if o else leaf[0], results, _has_rows(out_axes, results)
    )

  return mapped


def _has_rows(axes: PyTree, tree: PyTree) -> PyTree:
  """For each leaf of a tree whether the axes, given for whole branches, are 0."""
  return jax.tree.map(
    lambda axis, branch: jax.tree.map(lambda _: axis == 0, branch),
    axes,
    tree,
    is_leaf=lambda axis: axis is None,
  )


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


def shapes_of_first(state: TrainState, count: int) -> TrainState:
  """The shapes of a stacked state's first `count` runs.

  Args:
    state: shapes with leaves [R, ...] but for the step.
    count: at most R.
  """
  rows = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), leaf.dtype),
    state._replace(step=None),
  )
  return rows._replace(step=state.step)


def padded(state: TrainState, count: int) -> TrainState:
  """A stacked state with its last run repeated until there are `count` of them."""

  def pad(leaf: Array) -> Array:
    index = np.minimum(np.arange(count), leaf.shape[0] - 1)
    return leaf[index]

  rows = jax.tree.map(pad, state._replace(step=None))
  return rows._replace(step=state.step)


@functools.partial(
  jax.jit,
  static_argnames=("network", "mesh", "together", "num_chains", "chunk_size"),
)
def bounds(
  keys: Array,
  weights: Weights,
  x: Array,
  labels: Array | None = None,
  *,
  network: Network,
  mesh: Mesh | None,
  together: int,
  num_chains: int,
  chunk_size: int,
) -> Array:
  """The lower bound of images under R models with fixed statistics, [R, N] nats.

  Args:
    keys: [N], one per image, the same for all models.
    weights: leaves [R, ...].
    x: [N, H, W, C].
    labels: [N], which bounds are conditional on; None: networks without classes.
    network: of all models.
    mesh: see `make_mesh`.
    together: models that a device computes at once; 0: all.
    num_chains: infusion chains an image.
    chunk_size: chains an image and model held at a time.
  """

  def one(weights: Weights, keys: Array, x: Array, labels: Array | None) -> Array:
    markov = sampling.markov_chain(network, weights)
    # Full float32 products on every device, as in `evaluation`.
    with jax.default_matmul_precision("highest"):
      return likelihood.estimate(
        keys, markov, x, labels, num_chains=num_chains, chunk_size=chunk_size
      ).bound

  axes = (0, None, None, None)
  return over_runs(one, axes, 0, mesh, together)(weights, keys, x, labels)


@functools.partial(jax.jit, static_argnames=("network", "mesh", "together"))
def sample_means(
  keys: Array, weights: Weights, *, network: Network, mesh: Mesh | None, together: int
) -> Array:
  """Pictures of R models, [R, B, H, W, C], from the same [B] keys; see `bounds`."""

  def one(weights: Weights, keys: Array) -> Array:
    return sampling.predict(sampling.markov_chain(network, weights), keys).mean

  return over_runs(one, (0, None), 0, mesh, together)(weights, keys)
