"""A model in one safetensors file: arrays by name, and a description in JSON.

Such a file holds numbers and text alone, and other libraries read it. Only this
module knows the package safetensors, an optional extra.
"""

import json
import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from infusion_jax.errors import UserError
from infusion_jax.storage import checkpoints, files
from infusion_jax.storage.files import StrPath

PyTree = Any

SUFFIX = ".safetensors"
#: The name under which the file's text metadata hold the description.
_ABOUT = "infusion_jax"
_SEPARATOR = "/"


def is_one(path: StrPath) -> bool:
  """Whether a path is to be read as such a file, by its name."""
  path = pathlib.Path(path).expanduser()
  return path.suffix == SUFFIX and not path.is_dir()


def write(path: StrPath, tree: PyTree, about: dict[str, Any]) -> None:
  """Writes a `model` item and its description, whole or not at all.

  Args:
    path: the file.
    tree: nested dictionaries of arrays, see `weights.tree_of`.
    about: ready for JSON.

  Raises:
    UserError: safetensors is not installed, or a place one cannot write to.
  """
  described = checkpoints.described(about, tree)
  flat = traverse_util.flatten_dict(jax.device_get(tree), sep=_SEPARATOR)
  arrays = {name: np.asarray(leaf, order="C") for name, leaf in flat.items()}
  metadata = {_ABOUT: json.dumps(described), "format": "np"}
  files.save_bytes(path, _library().numpy.save(arrays, metadata))


def read_about(path: StrPath) -> dict[str, Any]:
  """The description in a file.

  Raises:
    UserError: the file cannot be read, is damaged, or was not written here.
  """
  with _opened(path) as stream:
    text = (stream.metadata() or {}).get(_ABOUT)
  if text is None:
    raise UserError(f"{path} has no description; allowed are files of this project")
  try:
    about = json.loads(text)
  except (ValueError, RecursionError):
    about = None
  return checkpoints.checked_about(about, f"file {path}")


def read(path: StrPath, like: PyTree) -> PyTree:
  """The arrays of a file, with the structure, shapes and types of `like`.

  Raises:
    UserError: the file is damaged, or of another model.
  """
  wanted = traverse_util.flatten_dict(like, sep=_SEPARATOR, keep_empty_nodes=True)
  full = {name for name, leaf in wanted.items() if hasattr(leaf, "shape")}
  with _opened(path) as stream:
    if set(stream.keys()) != full:
      raise UserError(f"file {path} is of another model: it has other arrays")
    found = {name: stream.get_tensor(name) for name in full}
  for name, array in found.items():
    if (array.shape, array.dtype) != (wanted[name].shape, wanted[name].dtype):
      raise UserError(
        f"file {path} is of another model: {name} is {array.dtype} {array.shape}"
      )
  tree = traverse_util.unflatten_dict(wanted | found, sep=_SEPARATOR)
  checkpoints.check_model(f"file {path}", read_about(path), tree)
  return tree


def _opened(path: StrPath) -> Any:
  safetensors = _library()
  place = pathlib.Path(path).expanduser()
  try:
    return safetensors.safe_open(place, framework="np")
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error}") from error
  except safetensors.SafetensorError as error:
    raise UserError(f"{path} is no safetensors file, or damaged ({error})") from error


def _library() -> Any:
  try:
    import safetensors.numpy
  except ImportError as error:
    raise UserError(
      "safetensors files need the package safetensors, which is not installed;"
      " pip install 'infusion_jax[safetensors]' or pip install safetensors brings it"
    ) from error
  return safetensors
