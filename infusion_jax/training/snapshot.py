"""The state of a run as the two trees a checkpoint stores."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax.chain import Infusion, Parameters
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import Network
from infusion_jax.sampling import Weights
from infusion_jax.storage.checkpoints import Checkpoints, newest_intact
from infusion_jax.training.state import (
  Recipe,
  Run,
  TrainState,
  initial_state,
)

PyTree = Any


def model_tree(weights: Weights) -> dict[str, PyTree]:
  """The `model` item: plain nested dictionaries, a format of our own."""
  infusion = weights.infusion
  return {
    "shared": weights.parameters.shared,
    "per_step": weights.parameters.per_step,
    "statistics": weights.statistics,
    "prior": infusion.prior._asdict(),
    "rates": jnp.asarray(infusion.rates),
    "target_variance": jnp.asarray(infusion.target_variance, jnp.float32),
  }


def model_weights(tree: dict[str, PyTree]) -> Weights:
  """The inverse of `model_tree`."""
  return Weights(
    Parameters(tree["shared"], tree["per_step"]),
    tree["statistics"],
    Infusion(Gaussian(**tree["prior"]), tree["rates"], tree["target_variance"]),
  )


def like_model(network: Network) -> dict[str, PyTree]:
  """Shapes and types of the `model` item for a network; nothing is computed."""

  def make() -> dict[str, PyTree]:
    parameters, statistics = network.init(jax.random.key(0))
    pixel = jnp.zeros(network.image_shape)
    infusion = Infusion(Gaussian(pixel, pixel), jnp.zeros(network.num_steps), 0.0)
    return model_tree(Weights(parameters, statistics, infusion))

  return jax.eval_shape(make)


def training_tree(state: TrainState) -> dict[str, PyTree]:
  """The `training` item: all of the state but the best parameters."""
  return state._replace(best=state.best._replace(parameters=None))._asdict()


def restore(
  checkpoints: Checkpoints, step: int, recipe: Recipe, run: Run
) -> TrainState:
  """The state saved at a step, bit for bit."""
  state = jax.eval_shape(lambda: initial_state(recipe, run.key))
  training = checkpoints.training(step, training_tree(state))
  model = model_weights(checkpoints.model(step, like_model(recipe.network)))
  restored = TrainState(**training)
  best = restored.best._replace(parameters=model.parameters)
  return jax.tree.map(jnp.array, restored._replace(best=best))


def weights_of(workdir: str, network: Network) -> Weights:
  """The best weights of another run, to start from.

  Raises:
    UserError: there is no checkpoint, or it is of another network.
  """
  checkpoints = Checkpoints(pathlib.Path(workdir))
  steps = checkpoints.steps()
  if not steps:
    raise UserError(
      f"train.init_from is {workdir!r}; allowed is a workdir with a checkpoint"
    )
  like = like_model(network)
  try:
    _, tree, _ = newest_intact(steps, lambda step: checkpoints.model(step, like))
    return model_weights(tree)
  except UserError as error:
    raise UserError(f"train.init_from is {workdir!r}; {error}") from error
  finally:
    checkpoints.close()
