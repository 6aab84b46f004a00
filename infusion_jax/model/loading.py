"""From a folder to a model: load, list its epochs, write it elsewhere."""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import random
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.model.trained import Model
from infusion_jax.networks import build, user_code
from infusion_jax.storage import provenance
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import FOLDER, Checkpoints, newest_intact
from infusion_jax.storage.files import StrPath

_LOGGER = logging.getLogger(__name__)


def load(path: StrPath, *, code: StrPath | None = None) -> Model:
  """Loads a model from a workdir, its `checkpoints` folder or one checkpoint.

  Nothing in a checkpoint is run. One whose network lies in a file of its own names
  that file, which is run only if `code` gives it.

  Args:
    path: the folder. Of a workdir the newest checkpoint that is not damaged is
      taken, with a warning if it is not the last; it holds the weights that were
      best on validation.
    code: a Python file that you trust and that defines the network, where
      `config.model.name` is "FILE.py:Class".

  Returns:
    The model, ready to sample on whatever device JAX uses.

  Raises:
    UserError: there is no checkpoint, it is damaged, of another project, or its
      network lies in a file that was not given.
  """
  if code is not None:
    user_code.run(code)
  workdir, step = locate(path)
  checkpoints = Checkpoints(workdir)
  # A checkpoint that was asked for by its step is not replaced by another.
  named = pathlib.Path(path).expanduser().name == str(step)
  steps = [step] if named else checkpoints.steps()
  try:
    _, model, _ = newest_intact(
      steps, lambda step: _read(checkpoints, step, pathlib.Path(path))
    )
  finally:
    checkpoints.close()
  return model


def _read(checkpoints: Checkpoints, step: int, path: pathlib.Path) -> Model:
  """The model of one checkpoint."""
  about = checkpoints.about(step)
  config, image_shape, levels = _read_about(about, checkpoints.folder / str(step))
  network = build(config.model, config.chain, image_shape)
  _warn_of_other_code(config.model.name, about.get("network_code", ""))
  tree = checkpoints.model(step, stored.like(network))
  return Model(
    network=network,
    weights=jax.tree.map(jnp.asarray, stored.from_tree(tree)),
    config=config,
    levels=levels,
    about=about,
    path=path,
    step=step,
  )


def _warn_of_other_code(name: str, trained_with: str) -> None:
  """Says so where a network's file is not the one the weights were trained with."""
  here = user_code.digest(name)
  if trained_with and here and here != trained_with:
    _LOGGER.warning(
      "network %s was trained with another version of its file (%s, here %s)",
      name,
      trained_with,
      here,
    )


def epochs(path: StrPath) -> dict[int, pathlib.Path]:
  """The checkpoints of a run by epoch, each a path to `load`.

  Those of `train.keep_every` and the newest; all there are if it is 0.

  Raises:
    UserError: there is no checkpoint, or one is damaged.
  """
  workdir, _ = locate(path)
  checkpoints = Checkpoints(workdir)
  try:
    steps = checkpoints.steps()
    abouts = {step: checkpoints.about(step) for step in steps}
  finally:
    checkpoints.close()
  kept = {}
  for step, about in abouts.items():
    folder = checkpoints.folder / str(step)
    config, _, _ = _read_about(about, folder)
    epoch = int(about.get("epoch", step))
    if step == steps[-1] or epoch % max(config.train.keep_every, 1) == 0:
      # A run stopped within an epoch has a second checkpoint of its number.
      kept.setdefault(epoch, folder)
  return kept


def untrained(model: Model) -> Model:
  """The model as it was before its first training step: random weights.

  Raises:
    UserError: training started from the weights of another run.
  """
  train = model.config.train
  if train.init_from:
    raise UserError(
      f"train.init_from is {train.init_from!r}: this run started from trained weights"
    )
  key = random.named(jax.random.key(train.seed), "parameters")
  parameters, statistics = model.network.init(key)
  weights = model.weights._replace(parameters=parameters, statistics=statistics)
  about = {**model.about, "epoch": 0, "statistics": "initial"}
  return dataclasses.replace(model, weights=weights, about=about, step=0)


def export(model: Model, folder: StrPath, **notes: Any) -> pathlib.Path:
  """Writes a model as a small checkpoint of its own, without training state.

  Of absolute paths in its description, such as that of the data, the last part is
  kept: folders of this machine say nothing to others.

  Args:
    model: what to write.
    folder: new or empty; `load(folder)` gives the model back.
    **notes: added to the checkpoint's description, ready for JSON.

  Returns:
    The checkpoint's folder.

  Raises:
    UserError: the folder is in use or cannot be written.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise UserError(f"{folder} is in use; allowed is a new or empty folder")
  try:
    checkpoints = Checkpoints(folder, write=True)
    checkpoints.export(
      model.step,
      stored.tree_of(model.weights),
      provenance.without_folders({**model.about, **notes}),
    )
    checkpoints.close()
  except OSError as error:
    raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
  return checkpoints.folder / str(model.step)


def locate(path: StrPath) -> tuple[pathlib.Path, int]:
  """The workdir and the step of the checkpoint that `load` takes.

  Raises:
    UserError: there is no checkpoint.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_dir():
    found = "is a file" if path.exists() else "does not exist"
    raise UserError(f"{path} {found}; allowed is a workdir or a checkpoint")
  workdir, step = path, None
  if not (path / FOLDER).is_dir():
    if path.name == FOLDER:
      workdir = path.parent
    elif path.name.isdecimal() and path.parent.name == FOLDER:
      workdir, step = path.parent.parent, int(path.name)
  steps = Checkpoints(workdir).steps()
  if not steps or step not in (None, *steps):
    raise UserError(
      f"{path} holds no complete checkpoint; allowed is a workdir made by"
      " experiments.train with at least one checkpoint"
    )
  return workdir, steps[-1] if step is None else step


def _read_about(
  about: dict[str, Any], where: pathlib.Path
) -> tuple[Config, tuple[int, int, int], int]:
  try:
    config = Config.from_dict(about["config"])
    height, width, channels = about["image_shape"]
    return config, (int(height), int(width), int(channels)), int(about["levels"])
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f"checkpoint {where} lacks its description: {error}") from error
