"""From a folder or a file to a model: load it, list its epochs."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import random
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.model import hub
from infusion_jax.model.rival import PeerModel
from infusion_jax.model.trained import Model
from infusion_jax.networks import user_code
from infusion_jax.peers import PeerNetwork, network_of
from infusion_jax.storage import tensor_files
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import FOLDER, Checkpoints, newest_intact
from infusion_jax.storage.files import StrPath

PyTree = Any

_LOGGER = logging.getLogger(__name__)


def load(path: StrPath, *, code: StrPath | None = None) -> Model:
  """Loads a model from a workdir, a checkpoint, a file or the Hugging Face Hub.

  Nothing in a checkpoint is run. One whose network lies in a file of its own names
  that file, which is run only if `code` gives it.

  Args:
    path: a workdir, its `checkpoints` folder or one checkpoint in it; a
      ".safetensors" file; or "hf://owner/name", optionally with "@revision". Of a
      workdir the newest checkpoint that is not damaged is taken, with a warning if
      it is not the last; it holds the weights that were best on validation.
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
  if hub.is_address(path):
    return _read_file(hub.fetched(str(path)))
  if tensor_files.is_one(path):
    return _read_file(path)
  workdir, step = locate(path)
  checkpoints = Checkpoints(workdir)
  # Never replaces a checkpoint that the caller chose by its step.
  named = pathlib.Path(path).expanduser().name == str(step)
  steps = [step] if named else checkpoints.steps()
  try:
    _, model, _ = newest_intact(steps, lambda step: _read(checkpoints, step, path))
  finally:
    checkpoints.close()
  return model


def _read(checkpoints: Checkpoints, step: int, path: StrPath) -> Model:
  """The model of one checkpoint."""
  where = f"checkpoint {checkpoints.folder / str(step)}"
  about = checkpoints.about(step)
  read = functools.partial(checkpoints.model, step)
  return _made(about, where, read, path, step)


def _read_file(file: StrPath) -> Model:
  """The model of a safetensors file."""
  about = tensor_files.read_about(file)
  read = functools.partial(tensor_files.read, file)
  return _made(about, f"file {file}", read, file, int(about.get("step", 0)))


def _made(
  about: dict[str, Any],
  where: str,
  read: Callable[[PyTree], PyTree],
  path: StrPath,
  step: int,
) -> Model:
  """A model from its description and what reads arrays of given shapes."""
  config, image_shape, levels = _read_about(about, where)
  network = network_of(config, image_shape)
  _warn_of_other_code(config.model.name, about.get("network_code", ""))
  tree = read(stored.like(network, about))
  kind = PeerModel if isinstance(network, PeerNetwork) else Model
  return kind(
    network=network,
    weights=jax.tree.map(jnp.asarray, stored.from_tree(tree, network)),
    config=config,
    levels=levels,
    about=about,
    path=pathlib.Path(path),
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
    config, _, _ = _read_about(about, f"checkpoint {folder}")
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
  about: dict[str, Any], where: str
) -> tuple[Config, tuple[int, int, int], int]:
  try:
    config = Config.from_dict(about["config"])
    height, width, channels = about["image_shape"]
    return config, (int(height), int(width), int(channels)), int(about["levels"])
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f"{where} lacks its description: {error}") from error
