"""Weights as the `model` item of a checkpoint: all that sampling needs, and no more."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax.chain import Infusion, Parameters
from infusion_jax.errors import UserError
from infusion_jax.networks import Network
from infusion_jax.sampling import Weights
from infusion_jax.states.infusion import RATES
from infusion_jax.storage.checkpoints import Checkpoints, newest_intact

PyTree = Any

#: What shared weights can be stored as; in use they are always float32.
DTYPES = ("float32", "float16")


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


def from_tree(tree: dict[str, PyTree], network: Network) -> Weights:
  """The inverse of `tree_of`; weights that were stored as float16 become float32."""
  prior = network.distribution(**tree["prior"])
  arrays = prior, tree["rates"], tree["target_variance"]
  return Weights(
    Parameters(_cast(tree["shared"], "float16", "float32"), tree["per_step"]),
    tree["statistics"],
    Infusion(*arrays, network.proposal),
  )


def narrowed(item: dict[str, PyTree], dtype: str) -> dict[str, PyTree]:
  """A `model` item whose shared weights, nearly all there is, are of another type.

  The rest stays float32: variances of 1e-5 have few digits in float16.

  Args:
    item: see `tree_of`.
    dtype: one of `DTYPES`; the description beside the item must say which.

  Raises:
    UserError: a weight is too large for the type.
  """
  shared = _cast(item["shared"], "float32", dtype)
  if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(shared)):
    raise UserError(f"dtype is {dtype!r}; a weight is too large for it")
  return {**item, "shared": shared}


def like(network: Network, about: Mapping[str, Any] | None = None) -> dict[str, PyTree]:
  """Shapes and types of the `model` item for a network; nothing is computed.

  Args:
    network: the network.
    about: the description beside the item, which tells the type of shared weights.

  Raises:
    UserError: it tells another type than `DTYPES`.
  """
  dtype = (about or {}).get("dtype", "float32")
  if dtype not in DTYPES:
    raise UserError(f"dtype is {dtype!r}; allowed are {', '.join(DTYPES)}")

  def make() -> dict[str, PyTree]:
    parameters, statistics = network.init(jax.random.key(0))
    pixel = jnp.zeros(network.image_shape)
    prior = network.of_states(pixel)
    rates = parameters.per_step.get(RATES, jnp.zeros(network.num_steps))
    infusion = Infusion(prior, rates, 0.0)
    item = tree_of(Weights(parameters, statistics, infusion))
    return {**item, "shared": _cast(item["shared"], "float32", dtype)}

  return jax.eval_shape(make)


def _cast(tree: PyTree, old: str, new: str) -> PyTree:
  """The same tree, its leaves of one type in another."""
  return jax.tree.map(
    lambda leaf: jnp.asarray(leaf, new) if leaf.dtype == old else leaf, tree
  )


def _as_trained(network: Network, about: Mapping[str, Any]) -> Network:
  """The network with the learned rates of another run's description."""
  if not isinstance(network, Network):
    return network
  train = about.get("config", {}).get("train", {})
  return dataclasses.replace(network, learn_rates=train.get("learn_rates", "none"))


def _with_rates(weights: Weights, network: Network) -> Weights:
  """Weights with the entry `RATES` that a network has, if it has one."""
  shared, per_step = weights.parameters
  fresh = network.moved_rates() if isinstance(network, Network) else {}
  shapes = [jnp.shape(tree[RATES]) for tree in (fresh, per_step) if RATES in tree]
  if len(shapes) != 2 or shapes[0] != shapes[1]:
    others = {name: leaf for name, leaf in per_step.items() if name != RATES}
    per_step = others | fresh
  return weights._replace(parameters=Parameters(shared, per_step))


def of_run(workdir: str, network: Network) -> Weights:
  """The best weights of another run, to start from.

  Where one of the two learns other rates than the other, or none, they start anew.

  Raises:
    UserError: there is no checkpoint, or it is of another network.
  """
  checkpoints = Checkpoints(pathlib.Path(workdir))
  steps = checkpoints.steps()
  if not steps:
    raise UserError(
      f"train.init_from is {workdir!r}; allowed is a workdir with a checkpoint"
    )

  def read(step: int) -> PyTree:
    about = checkpoints.about(step)
    return checkpoints.model(step, like(_as_trained(network, about), about))

  try:
    _, tree, _ = newest_intact(steps, read)
    return _with_rates(from_tree(tree, network), network)
  except UserError as error:
    raise UserError(f"train.init_from is {workdir!r}; {error}") from error
  finally:
    checkpoints.close()
