"""Whether a run fits its data, and where its labels are put."""

import numpy as np
from jax.sharding import Mesh

from infusion_jax import objectives, pixels
from infusion_jax.config import BITS, Config
from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError
from infusion_jax.restoration import conditions
from infusion_jax.states.infusion import PROPOSALS
from infusion_jax.training import devices


def check_fits(config: Config, dataset: Dataset) -> None:
  """Raises UserError where a run does not fit its data.

  A batch may be too large, labels may be missing, states may be of another kind than
  the pixels.
  """
  if config.train.batch_size > len(dataset.train):
    raise UserError(
      f"train.batch_size is {config.train.batch_size}; the training split of"
      f" {dataset.name} has only {len(dataset.train)} images"
    )
  _check_states(config, dataset)
  _check_proposal(config)
  check(config, dataset)
  if config.model.condition:
    conditions.check(config.model.condition, dataset.image_shape)


def check(config: Config, dataset: Dataset) -> None:
  """Raises UserError where a network with classes has no labels, or the reverse."""
  classes = config.model.num_classes
  if bool(classes) == (dataset.labels is not None):
    return
  told = "without labels" if classes else "with labels"
  raise UserError(
    f"model.num_classes is {classes}; the data set {dataset.name} was loaded {told}"
  )


def _check_states(config: Config, dataset: Dataset) -> None:
  bits = dataset.levels == pixels.BITS
  if bits != (config.chain.states == BITS):
    raise UserError(
      f"chain.states is {config.chain.states!r}; the pixels of {dataset.name} are"
      f" {'bits' if bits else 'no bits'}, allowed is {BITS!r} for data of bits"
      " (data.binarize) and 'gaussian' for others"
    )
  train = config.train
  if bits and (train.objective, train.likelihood) != ("denoising", "density"):
    raise UserError(
      f"train.objective is {train.objective!r} and train.likelihood"
      f" {train.likelihood!r}; no gradient flows through a draw of bits (chain.states"
      f" = {BITS!r}), allowed are 'denoising' and 'density'"
    )
  model = config.model
  ours = bits or model.num_classes or model.condition or model.self_conditioning
  ours = ours or model.latents > 1
  if train.method != "infusion" and (ours or config.chain.infusion != "mixture"):
    raise UserError(
      f"train.method is {train.method!r}; conditions (model.num_classes,"
      f" model.condition), bits (chain.states = {BITS!r}), model.self_conditioning,"
      " model.latents and chain.infusion are for 'infusion' alone"
    )
  if bits and model.condition:
    raise UserError(
      f"model.condition is {model.condition!r}; it is for Gaussian states alone,"
      f" chain.states is {BITS!r}"
    )


def _check_proposal(config: Config) -> None:
  """Raises UserError where q is none that the states know or the criterion teaches."""
  kind, train = config.chain.infusion, config.train
  learned, objective = train.learn_rates, train.objective
  if kind != "mixture" and config.chain.states == BITS:
    raise UserError(
      f"chain.infusion is {kind!r}; bits (chain.states = {BITS!r}) take 'mixture', the"
      " same for them"
    )
  doubly = objective == "importance_weighted" and train.score_free
  if doubly and config.model.self_conditioning:
    raise UserError(
      "train.score_free is True for 'importance_weighted'; with model.self_conditioning"
      " it is False, as means are no states to differentiate through"
    )
  if config.model.latents > 1 and objective in objectives.THROUGH_TIME:
    raise UserError(
      f"train.objective is {objective!r} and model.latents {config.model.latents}; no"
      " gradient flows through the choice of a mode, allowed is 'denoising'"
    )
  if learned == "none":
    return
  if PROPOSALS[kind].chooses and objective == "importance_weighted":
    raise UserError(
      f"train.learn_rates is {learned!r} and chain.infusion {kind!r}; no gradient of"
      f" {objective!r} knows its choice of pixels, allowed are 'lower_bound' and"
      " 'hybrid', or chain.infusion = 'interpolation'"
    )
  if objective not in objectives.THROUGH_TIME:
    raise UserError(
      f"train.learn_rates is {learned!r} and train.objective {objective!r}; a gradient"
      f" of the rates comes from {', '.join(objectives.THROUGH_TIME)} alone"
    )


def placed(
  config: Config, dataset: Dataset, mesh: Mesh | None
) -> dict[str, devices.Images | None]:
  """Labels of what is measured, on the devices.

  Returns:
    By name: "train" (the first `train.monitor_images`) and "validation"; None each
    where there are no labels.
  """

  def put(labels: np.ndarray | None, count: int | None = None) -> devices.Images | None:
    return None if labels is None else devices.shared(labels[:count], mesh)

  return {
    "train": put(dataset.labels_of("train"), config.train.monitor_images),
    "validation": put(dataset.labels_of("validation")),
  }
