"""Weights as the `model` item of a checkpoint: all that sampling needs, and no more."""

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

PyTree = Any


def tree_of(weights: Weights) -> dict[str, PyTree]:
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


def from_tree(tree: dict[str, PyTree]) -> Weights:
  """The inverse of `tree_of`."""
  return Weights(
    Parameters(tree["shared"], tree["per_step"]),
    tree["statistics"],
    Infusion(Gaussian(**tree["prior"]), tree["rates"], tree["target_variance"]),
  )


def like(network: Network) -> dict[str, PyTree]:
  """Shapes and types of the `model` item for a network; nothing is computed."""

  def make() -> dict[str, PyTree]:
    parameters, statistics = network.init(jax.random.key(0))
    pixel = jnp.zeros(network.image_shape)
    infusion = Infusion(Gaussian(pixel, pixel), jnp.zeros(network.num_steps), 0.0)
    return tree_of(Weights(parameters, statistics, infusion))

  return jax.eval_shape(make)


def of_run(workdir: str, network: Network) -> Weights:
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
  try:
    _, tree, _ = newest_intact(
      steps, lambda step: checkpoints.model(step, like(network))
    )
    return from_tree(tree)
  except UserError as error:
    raise UserError(f"train.init_from is {workdir!r}; {error}") from error
  finally:
    checkpoints.close()
