"""The state of a run as the two trees a checkpoint stores."""

from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax.storage import weights
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.training.state import Recipe, Run, TrainState, initial_state

PyTree = Any


def training_tree(state: TrainState) -> dict[str, PyTree]:
  """The `training` item: all of the state but the best parameters."""
  return state._replace(best=state.best._replace(parameters=None))._asdict()


def restore(
  checkpoints: Checkpoints, step: int, recipe: Recipe, run: Run
) -> TrainState:
  """The state saved at a step, bit for bit."""
  state = jax.eval_shape(lambda: initial_state(recipe, run.key))
  training = checkpoints.training(step, training_tree(state))
  tree = checkpoints.model(step, weights.like(recipe.network))
  model = weights.from_tree(tree, recipe.network)
  restored = TrainState(**training)
  best = restored.best._replace(parameters=model.parameters)
  return jax.tree.map(jnp.array, restored._replace(best=best))
