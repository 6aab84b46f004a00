"""The project's own programs over shapes: to be compiled for chips that are not here.

Nothing is allocated or computed: every argument is a shape with its place on the
chips. A data set is known by its size alone.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from infusion_jax import likelihood, random, sampling
from infusion_jax.chain import MarkovChain
from infusion_jax.config import Config
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.likelihood.annealing import estimator
from infusion_jax.sampling import Weights
from infusion_jax.training import devices, programs
from infusion_jax.training.state import Recipe, initial_state, make_recipe, make_run

PyTree = Any

#: Training images and their shape, by `data.name`.
DATA_SETS = {
  "digits": (1_257, (8, 8, 1)),
  "mnist": (50_000, (28, 28, 1)),
  "cifar10": (45_000, (32, 32, 3)),
  "celeb_a": (162_770, (64, 64, 3)),
}
#: Sizes of the compiled calls of evaluation: its defaults.
_SAMPLES = 500
_BOUND_IMAGES, _BOUND_CHAINS = 16, 64
_ANNEALED_IMAGES, _ANNEALED_CHAINS, _LEGS = 16, 4, 50


class Work(NamedTuple):
  """One program.

  Attributes:
    name: what it does.
    unit: what its cost is quoted for.
    function: of the arguments.
    arguments: shapes.
    units: how many of them a call is.
    per_step: whether a unit is one iteration of a loop of any length.
  """

  name: str
  unit: str
  function: Callable[..., PyTree]
  arguments: tuple[PyTree, ...]
  units: int = 1
  per_step: bool = False

  def lower(self) -> Any:
    """The program, ready to be compiled (`jax.stages.Lowered`)."""
    function = self.function
    function = function if hasattr(function, "lower") else jax.jit(function)
    return function.lower(*self.arguments)


def read_config(name: str) -> Config:
  """A configuration by the name of its file: "mnist", "celeba:unet".

  Raises:
    UserError: there is no such file, or its data set is not in `DATA_SETS`.
  """
  module, _, variant = name.partition(":")
  try:
    found = importlib.import_module(f"configs.{module}")
  except ModuleNotFoundError as error:
    raise UserError(
      f"--config names {name!r}; there is no configs/{module}.py"
    ) from error
  values = found.get_config(variant) if variant else found.get_config()
  config = Config.from_dict(values.to_dict())
  if config.data.name not in DATA_SETS:
    raise UserError(
      f"--config={name} trains on {config.data.name!r}; sizes are known of"
      f" {', '.join(DATA_SETS)}"
    )
  return config


def make_mesh(chips: Sequence[Any]) -> Mesh:
  """Chips that share every batch; see `devices.make_mesh`."""
  return Mesh(np.asarray(chips), (devices.AXIS,), axis_types=(AxisType.Auto,))


def training(config: Config, mesh: Mesh | None, unroll: int = 1) -> Work:
  """Steps of training, as `training.loop` takes them.

  Args:
    config: the run; its batch is the global one.
    mesh: chips; None: those that are here.
    unroll: steps of the chain per iteration.
  """
  recipe = _recipe(config, mesh, unroll)
  run = jax.eval_shape(lambda: make_run(config, _data(config)))
  state = jax.eval_shape(functools.partial(initial_state, recipe), run.key)
  count, shape = DATA_SETS[config.data.name]
  rows = -(-count // mesh.size) * mesh.size if mesh else count
  part = mesh and NamedSharding(mesh, PartitionSpec(devices.AXIS))
  images = jax.ShapeDtypeStruct((rows, *shape), jnp.uint8, sharding=part)
  everywhere = mesh and NamedSharding(mesh, PartitionSpec())
  steps = jax.ShapeDtypeStruct((), jnp.int32)
  arguments = _placed((state, run), everywhere)
  return Work(
    "training",
    f"step of {recipe.batch_size} images",
    programs.Program(recipe).train_steps,
    (*arguments, devices.Shared(images, count) if mesh else images, steps),
    per_step=True,
  )


def sampled(config: Config, place: Sharding | None, unroll: int = 1) -> Work:
  """Pictures of model chains (`sampling.means`)."""
  markov = _markov(config, unroll)
  arguments = _placed((markov, _keys(_SAMPLES)), place)
  return Work("sampling", f"{_SAMPLES} pictures", sampling.predict, arguments)


def bound(config: Config, place: Sharding | None, unroll: int = 1) -> Work:
  """Bound and importance sampling (`likelihood.estimate`)."""
  function = functools.partial(likelihood.estimate, num_chains=_BOUND_CHAINS)
  markov, x = _markov(config, unroll), _images(config, _BOUND_IMAGES)
  arguments = _placed((_keys(_BOUND_IMAGES), markov, x), place)
  unit = f"{_BOUND_IMAGES} images, {_BOUND_CHAINS} chains each"
  return Work("bound", unit, function, arguments)


def annealing(config: Config, place: Sharding | None, unroll: int = 1) -> Work:
  """Legs of annealed importance sampling (`estimator.anneal`)."""
  markov, x = _markov(config, unroll), _images(config, _ANNEALED_IMAGES)
  keys = _keys(_ANNEALED_IMAGES)
  begin = functools.partial(estimator.begin, num_chains=_ANNEALED_CHAINS)
  state = jax.eval_shape(begin, keys, markov, x)
  legs = estimator.Leg(
    jax.ShapeDtypeStruct((_LEGS,), jnp.int32),
    *[jax.ShapeDtypeStruct((_LEGS,), jnp.float32)] * 2,
    jax.ShapeDtypeStruct((_LEGS, _ANNEALED_IMAGES), jnp.float32),
  )
  arguments = _placed((keys, markov, x, state, legs), place)
  unit = f"leg of {_ANNEALED_IMAGES} images, {_ANNEALED_CHAINS} chains each"
  return Work("annealing", unit, estimator.anneal, arguments, units=_LEGS)


#: The programs that run on a single chip.
SINGLE = (sampled, bound, annealing)


def flops(make: Callable[[int], Work], num_steps: int) -> float:
  """Operations of a unit of work on all chips together, by XLA's own analysis.

  It counts the body of a loop once. What one more step of the chain costs is the
  difference between programs with one and with several of them in the body.

  Args:
    make: the work with so many steps of the chain per iteration, without a mesh.
    num_steps: T.
  """
  several = next(n for n in (2, 3, 5, 7, num_steps) if num_steps % n == 0)
  one, more = (_counted(make(unroll)) for unroll in (1, several))
  return one + (num_steps - 1) * (more - one) / (several - 1)


def _counted(work: Work) -> float:
  return work.lower().cost_analysis()["flops"]


def _recipe(config: Config, mesh: Mesh | None, unroll: int) -> Recipe:
  chain = dataclasses.replace(config.chain, unroll=unroll)
  recipe = make_recipe(dataclasses.replace(config, chain=chain), _data(config), mesh)
  module = recipe.network.module
  if hasattr(module, "lowering"):
    # The layers choose a lowering for the processor at hand; a chip needs its own.
    module = module.clone(lowering="native")
  network = dataclasses.replace(recipe.network, module=module)
  return dataclasses.replace(recipe, network=network)


def _markov(config: Config, unroll: int) -> MarkovChain:
  recipe = _recipe(config, None, 1)
  run = make_run(config, _data(config))
  state = jax.eval_shape(functools.partial(initial_state, recipe), run.key)
  weights = Weights(state.parameters, state.statistics, run.infusion)
  markov = jax.eval_shape(
    functools.partial(sampling.markov_chain, recipe.network), weights
  )
  return dataclasses.replace(markov, unroll=unroll)


@functools.cache
def _data(config: Config) -> Dataset:
  """Images of the right shape; how many there are decides nothing here."""
  _, shape = DATA_SETS[config.data.name]
  few = np.zeros((config.train.batch_size, *shape), np.uint8)
  return Dataset(config.data.name, few, few[:1], few[:1])


def _images(config: Config, count: int) -> jax.ShapeDtypeStruct:
  _, shape = DATA_SETS[config.data.name]
  return jax.ShapeDtypeStruct((count, *shape), jnp.float32)


def _keys(count: int) -> jax.ShapeDtypeStruct:
  return jax.eval_shape(lambda: random.steps(jax.random.key(0), count))


def _placed(tree: PyTree, place: Sharding | None) -> PyTree:
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree
  )
