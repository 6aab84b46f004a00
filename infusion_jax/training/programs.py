"""The compiled part of training: steps, validation, batch statistics.

Every function here is pure, works on the device alone and can be vmapped over
a leading axis of runs.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from infusion_jax import objectives, pixels, random
from infusion_jax.chain import Infusion, MarkovChain, Parameters
from infusion_jax.objectives import Criterion, Terms
from infusion_jax.training import averages, conditioning, devices
from infusion_jax.training.state import Best, Recipe, Run, Totals, TrainState

Array = jax.Array
PyTree = Any

#: Weight of the past in the running batch statistics.
_MOMENTUM = 0.9


def train_steps(
  recipe: Recipe,
  state: TrainState,
  run: Run,
  images: devices.Images,
  num_steps: Array,
  labels: devices.Images | None = None,
) -> TrainState:
  """Takes `num_steps` optimizer steps, all within one epoch.

  The number is traced: one compiled loop serves chunks of every length, and
  how an epoch is cut into chunks does not change a bit of the result.

  Args:
    recipe: the program (static).
    state: before; may be donated.
    run: the run's numbers.
    images: the training set, [N, H, W, C] uint8.
    num_steps: how many steps; not beyond the end of the epoch.
    labels: of the images, [N]; None: the network has no classes.

  Returns:
    The state after.
  """
  per_epoch = len(images) // recipe.batch_size
  order = epoch_order(run.key, state.step // per_epoch, len(images))

  def body(_: Array, state: TrainState) -> TrainState:
    first = (state.step % per_epoch) * recipe.batch_size
    chosen = jax.lax.dynamic_slice_in_dim(order, first, recipe.batch_size)
    take = functools.partial(devices.taken, numbers=chosen, mesh=recipe.mesh)
    batch, told = take(images), None if labels is None else take(labels)
    return train_step(recipe, state, run, batch, told)

  return jax.lax.fori_loop(0, num_steps, body, state)


def train_block(
  recipe: Recipe,
  state: TrainState,
  run: Run,
  block: PyTree,
  first: Array,
  num_steps: Array,
) -> TrainState:
  """`train_steps` with a part of an epoch in its order, instead of all images.

  Args:
    recipe: the program (static).
    state: before; may be donated.
    run: the run's numbers.
    block: the batches of S steps: images [S, B, H, W, C] uint8, and labels [S, B] or
      None.
    first: the first of these steps.
    num_steps: how many to take; not beyond the block.

  Returns:
    The state after, the same as that of `train_steps`.
  """

  def body(_: Array, state: TrainState) -> TrainState:
    take = functools.partial(
      jax.lax.dynamic_index_in_dim, index=state.step - first, keepdims=False
    )
    batch = devices.split(jax.tree.map(take, block), recipe.mesh)
    return train_step(recipe, state, run, *batch)

  return jax.lax.fori_loop(0, num_steps, body, state)


def epoch_order(key: Array, epoch: Array, size: int) -> Array:
  """The permutation of the training set in an epoch: a function of the two."""
  key = random.fold_in(random.named(key, "shuffle"), epoch)
  return jax.random.permutation(key, size)


def batch_of(recipe: Recipe, state: TrainState, run: Run, images: np.ndarray) -> Array:
  """The mini-batch that a state's next step takes from images on the host."""
  per_epoch = len(images) // recipe.batch_size
  order = epoch_order(run.key, state.step // per_epoch, len(images))
  first = int(state.step) % per_epoch * recipe.batch_size
  return jnp.asarray(images[np.asarray(order)[first : first + recipe.batch_size]])


def train_step(
  recipe: Recipe,
  state: TrainState,
  run: Run,
  images: Array,
  labels: Array | None = None,
) -> TrainState:
  """One mini-batch: dequantize, run the chain, differentiate, update.

  Args:
    recipe: the program.
    state: before.
    run: the run's numbers.
    images: [B, H, W, C] uint8.
    labels: [B], or None.

  Returns:
    The state after.
  """
  result = criterion(recipe, state, run, images, labels)
  updates, optimizer = recipe.optimizer.update(result.gradient, state.optimizer)
  rate = run.learning_rate * decay(state.step, run.decay_steps)
  parameters = jax.tree.map(lambda p, u: p - rate * u, state.parameters, updates)
  norm = optax.tree.norm(result.gradient)
  finite = jnp.isfinite(result.loss) & jnp.isfinite(norm)
  return state._replace(
    step=state.step + 1,
    parameters=parameters,
    optimizer=optimizer,
    average=_averaged(state.average, parameters, state.step, recipe.ema_decay),
    statistics=optax.incremental_update(result.report, state.statistics, 1 - _MOMENTUM),
    totals=Totals(
      state.totals.count + 1,
      state.totals.loss + result.loss,
      state.totals.gradient_norm + norm,
    ),
    failed=jnp.where((state.failed < 0) & ~finite, state.step, state.failed),
  )


def criterion(
  recipe: Recipe,
  state: TrainState,
  run: Run,
  images: Array,
  labels: Array | None = None,
  *,
  with_terms: bool = False,
) -> Criterion:
  """The criterion of one mini-batch [B, H, W, C] uint8 with the noise of its step."""
  key = random.fold_in(random.named(run.key, "train"), state.step)
  x = pixels.dequantized(random.named(key, "dequantize"), images, recipe.levels)
  told, key = conditioning.told(recipe, key, images, labels), random.named(key, "chain")
  if recipe.peer:
    return recipe.peer.criterion(key, state.parameters, x, run.infusion)
  return objectives.CRITERIA[recipe.objective](
    key,
    Partial(recipe.network.train, **told),
    state.parameters,
    x,
    run.infusion,
    with_terms=with_terms,
    unroll=recipe.unroll,
    levels=recipe.output_levels,
    **dict(recipe.objective_options),
  )


def decay(step: Array, decay_steps: Array) -> Array:
  """Factor on the learning rate: half a cosine to 0, or 1 if decay_steps is 0."""
  progress = jnp.clip(step / jnp.maximum(decay_steps, 1), 0.0, 1.0)
  return jnp.where(decay_steps > 0, 0.5 * (1 + jnp.cos(math.pi * progress)), 1.0)


def end_epoch(state: TrainState, bound: Array, epoch: Array) -> TrainState:
  """Clears the epoch's totals and keeps the parameters if `bound` is the best.

  Args:
    state: after the epoch's last step; may be donated.
    bound: the validation bound, nats per image. NaN is never the best.
    epoch: the number of epochs finished.

  Returns:
    The state to begin the next epoch with.
  """
  better = bound > state.best.bound
  candidate = Best(bound, epoch, state.current, state.statistics)
  return state._replace(
    totals=jax.tree.map(jnp.zeros_like, state.totals),
    best=jax.tree.map(
      lambda new, old: jnp.where(better, new, old).astype(old.dtype),
      candidate,
      state.best,
    ),
  )


def mean_terms(
  recipe: Recipe,
  parameters: Parameters,
  key: Array,
  infusion: Infusion,
  images: Array,
  labels: Array | None = None,
) -> dict[str, Array]:
  """The bound over a set of images, with the statistics of each mini-batch.

  Of a rival method it is its loss. This is what training is validated by. The noise is
  the same at every call with the same key, so that bounds of successive epochs compare.

  Args:
    recipe: the program.
    parameters: to evaluate.
    key: for dequantization and chains.
    infusion: prior, rates and target variance.
    images: [N, H, W, C] uint8.
    labels: [N], which bounds are conditional on; None: the network has no classes.

  Returns:
    Means over the images in nats: bound, prior, per_step (summed over the
    steps) and reconstruction; or loss.
  """

  def evaluate(key: Array, rows: tuple[Array, Array | None]) -> dict[str, Array]:
    images, labels = rows
    x = pixels.dequantized(random.named(key, "dequantize"), images, recipe.levels)
    told = conditioning.told(recipe, key, images, labels, dropping=False)
    key = random.named(key, "chain")
    if recipe.peer:
      return {"loss": recipe.peer.loss(key, parameters.shared, x, infusion.prior)}
    terms, _ = infused_bound(recipe, parameters, key, infusion, x, told)
    return {
      "bound": terms.bound.mean(),
      "prior": terms.prior.mean(),
      "per_step": terms.per_step.sum(0).mean(),
      "reconstruction": terms.reconstruction.mean(),
    }

  rows = images, labels
  return averages.over_batches(evaluate, key, rows, recipe.batch_size, recipe.mesh)


def population_statistics(
  recipe: Recipe,
  parameters: Parameters,
  key: Array,
  infusion: Infusion,
  images: Array,
  labels: Array | None = None,
) -> PyTree:
  """Batch statistics of the whole training set, for evaluation and sampling.

  With the weights fixed, the infusion chain is run over all images; the means
  and variances of every mini-batch, layer and step are averaged, each batch
  with the weight of its size (appendix A.1).

  Args:
    recipe: the program.
    parameters: the fixed weights.
    key: for dequantization and chains.
    infusion: prior, rates and target variance.
    images: the training set, [N, H, W, C] uint8.
    labels: [N], left out as often as in training; None: the network has no classes.

  Returns:
    Statistics with leaves [T, ...]; a rival method has none.
  """
  if recipe.peer:
    return {}

  evaluate = _reports(recipe, parameters, infusion)
  rows = images, labels
  return averages.over_batches(evaluate, key, rows, recipe.batch_size, recipe.mesh)


def add_statistics(
  recipe: Recipe,
  total: PyTree,
  parameters: Parameters,
  key: Array,
  infusion: Infusion,
  batches: PyTree,
  first: Array,
  count: int,
) -> PyTree:
  """A part of `population_statistics`, for images that are read block by block.

  Args:
    recipe: the program.
    total: of the batches before these; None: there are none.
    parameters: the fixed weights.
    key: for dequantization and chains.
    infusion: prior, rates and target variance.
    batches: S of the batches that the set is cut into: images [S, B, H, W, C] uint8,
      and labels [S, B] or None.
    first: number of the first of them.
    count: N, images of the whole set (static).

  Returns:
    The total with these batches; after the last one the statistics.
  """
  evaluate = _reports(recipe, parameters, infusion)
  batches = devices.split(batches, recipe.mesh, axis=1)
  if total is None:
    total = averages.zeros(evaluate, key, batches)
  return averages.add_batches(evaluate, total, key, batches, first, count)


def _reports(
  recipe: Recipe, parameters: Parameters, infusion: Infusion
) -> Callable[[Array, tuple[Array, Array | None]], PyTree]:
  """What maps a key, images [B, H, W, C] and labels to the reports of their chains."""

  def evaluate(key: Array, rows: tuple[Array, Array | None]) -> PyTree:
    images, labels = rows
    told = conditioning.told(recipe, key, images, labels)
    x = pixels.dequantized(random.named(key, "dequantize"), images, recipe.levels)
    _, report = infused_bound(
      recipe, parameters, random.named(key, "chain"), infusion, x, told
    )
    return report

  return evaluate


def infused_bound(
  recipe: Recipe,
  parameters: Parameters,
  key: Array,
  infusion: Infusion,
  x: Array,
  told: dict[str, Array | None],
) -> tuple[Terms, PyTree]:
  """The bound of one mini-batch [B, H, W, C] under its own statistics, and those.

  Named arguments of the operator are in `told`, see `conditioning.told`.
  """
  steps = recipe.network.steps(parameters.per_step)
  infusion = infusion.learned(parameters.per_step)
  transition = Partial(recipe.network.train, parameters.shared, **told)
  markov = MarkovChain(transition, steps, infusion, recipe.unroll, recipe.output_levels)
  return objectives.bound(key, markov, x)


def _averaged(
  average: Parameters | None, parameters: Parameters, step: Array, decay: float
) -> Parameters | None:
  """The moving average after a step; it forgets faster while it is young."""
  if average is None:
    return None
  keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
  return optax.incremental_update(parameters, average, 1 - keep)


@functools.cache
def compiled(recipe: Recipe) -> "Program":
  """The jitted functions of a recipe; equal recipes share their compilation."""
  return Program(recipe)


class Program:
  """A recipe's jitted functions; states given to them are donated."""

  def __init__(self, recipe: Recipe) -> None:
    """Wraps the functions; nothing is compiled before the first call."""

    def bind(function: Callable, **options: Any) -> Callable:
      function = functools.partial(function, recipe)
      return devices.compiled(function, recipe.mesh, **options)

    self.train_steps = bind(train_steps, fills=True, donate_argnums=0)
    self.end_epoch = devices.compiled(end_epoch, recipe.mesh, donate_argnums=0)
    self.mean_terms = bind(mean_terms)
    self.population_statistics = bind(population_statistics)
    self.train_block = bind(train_block, donate_argnums=0)
    self.add_statistics = bind(add_statistics, static_argnums=6)
