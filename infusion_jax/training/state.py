"""What training carries from step to step, and what a run is made of."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from infusion_jax import chain, objectives, peers, pixels, random, schedules
from infusion_jax.chain import Infusion, Parameters
from infusion_jax.config import ChainConfig, Config, TrainConfig
from infusion_jax.datasets import Dataset
from infusion_jax.gaussian import Distribution
from infusion_jax.networks import Network, states_of
from infusion_jax.peers import Peer, PeerNetwork
from infusion_jax.states import bernoulli
from infusion_jax.states.infusion import PROPOSALS

Array = jax.Array
PyTree = Any


class Run(NamedTuple):
  """What tells one run from another without recompiling: arrays only.

  Runs of equal recipe can be stacked on a leading axis and trained by one
  vmapped program.

  Attributes:
    key: the run's seed as a key.
    infusion: prior, rates and target variance.
    learning_rate: scalar.
    decay_steps: steps over which the learning rate falls to 0; 0: constant.
  """

  key: Array
  infusion: Infusion
  learning_rate: Array
  decay_steps: Array


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a compiled training program depends on; hashable.

  Attributes:
    network: the transition operator.
    objective: a name of `objectives.CRITERIA`.
    objective_options: arguments of that criterion, names and values.
    batch_size: images per step.
    levels: grey levels of the images.
    clip: largest global gradient norm; 0: not clipped.
    ema_decay: of the averaged weights; 0: none.
    unroll: steps of the chain per iteration of the compiled loop.
    output_levels: grey levels whose probabilities are learned; 0: densities.
    label_dropout: how often an image is trained without a condition.
    condition: what is seen of images, one of `config.CONDITIONS`; empty: nothing.
    mesh: devices that share every batch, see `devices`; None: one device.
    peer: a rival method, which takes the place of the objective; None: infusion.
  """

  network: Network | PeerNetwork
  objective: str
  batch_size: int
  levels: int
  clip: float = 0.0
  ema_decay: float = 0.0
  unroll: int = 1
  output_levels: int = 0
  objective_options: tuple[tuple[str, Any], ...] = ()
  label_dropout: float = 0.0
  condition: str = ""
  mesh: Mesh | None = None
  peer: Peer | None = None

  @property
  def optimizer(self) -> optax.GradientTransformation:
    """Adam without its learning rate, which is a number of the run.

    Its state is Adam's alone, clipped or not: Orbax does not restore the tuple with an
    empty part that `optax.chain` would make of it.
    """
    adam = optax.scale_by_adam()
    if not self.clip:
      return adam
    clip = optax.clip_by_global_norm(self.clip)

    def update(gradient: PyTree, state: PyTree, _: Any = None) -> tuple[PyTree, PyTree]:
      clipped, _ = clip.update(gradient, clip.init(gradient))
      return adam.update(clipped, state)

    return optax.GradientTransformation(adam.init, update)


class Totals(NamedTuple):
  """Sums over the steps of the epoch so far."""

  count: Array
  loss: Array
  gradient_norm: Array


class Best(NamedTuple):
  """The parameters with the best validation bound so far.

  Attributes:
    bound: nats per image; minus infinity before the first validation.
    epoch: the number of finished epochs they were taken after.
    parameters: of that time (averaged ones where averaging is on).
    statistics: running batch statistics of that time.
  """

  bound: Array
  epoch: Array
  parameters: Parameters
  statistics: PyTree


class TrainState(NamedTuple):
  """All that changes while training.

  Attributes:
    step: optimizer steps taken; the data cursor is this counter.
    parameters: the parameters.
    optimizer: optax's state.
    average: exponential moving average of the parameters, or None.
    statistics: running average of the batch statistics, [T, ...] leaves: for
      previews; evaluation uses those of the whole training set.
    totals: of the current epoch.
    failed: the first step with a non-finite loss or gradient; -1: none.
    best: see `Best`.
  """

  step: Array
  parameters: Parameters
  optimizer: PyTree
  average: Parameters | None
  statistics: PyTree
  totals: Totals
  failed: Array
  best: Best

  @property
  def current(self) -> Parameters:
    """The parameters to validate: the averaged ones where there are any."""
    return self.parameters if self.average is None else self.average


def initial_state(
  recipe: Recipe, key: Array, parameters: Parameters | None = None
) -> TrainState:
  """The state before the first step.

  Args:
    recipe: the program.
    key: the run's key.
    parameters: to start from, instead of fresh ones.

  Returns:
    The state, no two leaves of which share a buffer (it will be donated).
  """
  fresh, statistics = recipe.network.init(random.named(key, "parameters"))
  parameters = fresh if parameters is None else _copied(parameters)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    parameters=parameters,
    optimizer=recipe.optimizer.init(parameters),
    average=_copied(parameters) if recipe.ema_decay else None,
    statistics=statistics,
    totals=Totals(jnp.zeros(()), jnp.zeros(()), jnp.zeros(())),
    failed=jnp.full((), -1, jnp.int32),
    best=Best(
      jnp.full((), -jnp.inf),
      jnp.zeros((), jnp.int32),
      _copied(parameters),
      _copied(statistics),
    ),
  )


def _copied(tree: PyTree) -> PyTree:
  # Copies single leaves: a copy of the whole state would double its memory.
  return jax.tree.map(jnp.copy, tree)


def make_recipe(config: Config, dataset: Dataset, mesh: Mesh | None = None) -> Recipe:
  """The program a configuration asks for."""
  network = peers.network_of(config, dataset.image_shape)
  conditional = network.num_classes or config.model.condition
  if mesh and isinstance(network, Network):
    network = network.spread()
  return Recipe(
    network=network,
    peer=network.peer if isinstance(network, PeerNetwork) else None,
    objective=config.train.objective,
    objective_options=tuple(
      (name, getattr(config.train, name))
      for name in objectives.OPTIONS.get(config.train.objective, ())
    ),
    batch_size=config.train.batch_size,
    levels=dataset.levels,
    clip=config.train.clip,
    ema_decay=config.train.ema_decay,
    # On a CPU a full unroll made a step of T = 5 1.45 times faster (see
    # `networks.layers`), but 1.65 times slower to compile, which grows with T.
    unroll=config.chain.unroll or 1,
    output_levels=dataset.levels if config.train.likelihood == "discrete" else 0,
    label_dropout=config.train.label_dropout if conditional else 0.0,
    condition=config.model.condition,
    mesh=mesh,
  )


def make_run(config: Config, dataset: Dataset) -> Run:
  """The numbers of the run a configuration describes."""
  train = config.train
  decay_epochs = train.num_epochs if train.decay == "cosine" else 0
  return Run(
    key=jax.random.key(train.seed),
    infusion=make_infusion(config, dataset),
    learning_rate=jnp.asarray(train.learning_rate, jnp.float32),
    decay_steps=jnp.asarray(decay_epochs * steps_per_epoch(train, dataset)),
  )


def make_infusion(config: Config, dataset: Dataset) -> Infusion:
  """Prior of the training set, rates, target variance and proposal.

  Raises:
    UserError: a rate outside [0, 1].
  """
  chain = config.chain
  return Infusion(
    states_of(config.model, chain, _prior(dataset, chain.prior_floor)),
    jnp.asarray(make_rates(chain)),
    jnp.asarray(chain.target_variance, jnp.float32),
    PROPOSALS[chain.infusion],
  )


@functools.lru_cache(maxsize=4)
def _prior(dataset: Dataset, floor: float) -> Distribution:
  """The prior of a training set, fitted once for all runs of a sweep."""
  if dataset.levels == pixels.BITS:
    return bernoulli.fit(dataset.train, floor)
  return chain.fit_prior(dataset.train, 1 / dataset.levels, floor)


def make_rates(config: ChainConfig) -> Array:
  """The schedule a configuration describes, [T]."""
  if config.rates:
    return schedules.validated(config.rates, "chain.rates")
  return schedules.linear(
    config.num_steps,
    config.alpha0,
    config.omega,
    repeat_first=config.repeat_first_rate,
  )


def steps_per_epoch(train: TrainConfig, dataset: Dataset) -> int:
  """Whole mini-batches in the training set; each epoch leaves out another rest."""
  return len(dataset.train) // train.batch_size
