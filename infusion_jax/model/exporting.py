"""A model written elsewhere, without its training state: checkpoint, file, hub."""

import pathlib
import tempfile
from typing import Any

from infusion_jax.errors import UserError
from infusion_jax.model import hub
from infusion_jax.model.trained import Model
from infusion_jax.storage import provenance, tensor_files
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.storage.files import StrPath

PyTree = Any


def export(
  model: Model, folder: StrPath, *, dtype: str = "float32", **notes: Any
) -> pathlib.Path:
  """Writes a model as a small checkpoint of its own, without training state.

  Of absolute paths in its description, such as that of the data, the last part is
  kept: folders of this machine say nothing to others.

  Args:
    model: what to write.
    folder: new or empty; `load(folder)` gives the model back.
    dtype: "float16" stores the shared weights in half the room, rounded.
    **notes: added to the checkpoint's description, ready for JSON.

  Returns:
    The checkpoint's folder.

  Raises:
    UserError: the folder is in use or cannot be written.
  """
  folder = pathlib.Path(folder)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise UserError(f"{folder} is in use; allowed is a new or empty folder")
  tree, about = _item(model, dtype, notes)
  try:
    checkpoints = Checkpoints(folder, write=True)
    checkpoints.export(model.step, tree, about)
    checkpoints.close()
  except OSError as error:
    raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
  return checkpoints.folder / str(model.step)


def export_file(
  model: Model, path: StrPath, *, dtype: str = "float32", **notes: Any
) -> pathlib.Path:
  """Writes a model as one safetensors file, which other libraries read, too.

  Its arrays are called "shared/Dense_0/kernel", "prior/mean" and so on; its metadata
  hold the description, configuration included, as JSON.

  Args:
    model: what to write.
    path: a new file ending in ".safetensors"; `load(path)` gives the model back.
    dtype: see `export`.
    **notes: see `export`.

  Returns:
    The file.

  Raises:
    UserError: the file is there or cannot be written, or safetensors is missing.
  """
  path = pathlib.Path(path)
  if path.suffix != tensor_files.SUFFIX:
    raise UserError(f"{path} must be a name ending in {tensor_files.SUFFIX}")
  if path.exists():
    raise UserError(f"{path} is there already; allowed is a new file")
  tree, about = _item(model, dtype, notes)
  tensor_files.write(path, tree, {**about, "step": model.step})
  return path


def push(model: Model, repository: str, *, dtype: str = "float32", **notes: Any) -> str:
  """Puts a model on the Hugging Face Hub, as a safetensors file and a page about it.

  Args:
    model: what to publish.
    repository: "owner/name"; made if it is not there.
    dtype: see `export`.
    **notes: see `export`.

  Returns:
    The address for `load`.

  Raises:
    UserError: huggingface_hub is missing, or the hub refuses.
  """
  with tempfile.TemporaryDirectory() as folder:
    export_file(model, pathlib.Path(folder) / hub.FILE, dtype=dtype, **notes)
    (pathlib.Path(folder) / "README.md").write_text(hub.card(repr(model), repository))
    return hub.pushed(folder, repository)


def _item(
  model: Model, dtype: str, notes: dict[str, Any]
) -> tuple[PyTree, dict[str, Any]]:
  """Arrays and description of a model for other people's machines."""
  about = {**model.about, **notes}
  about.pop("dtype", None)
  if dtype != "float32":
    about["dtype"] = dtype
  tree = stored.narrowed(stored.tree_of(model.weights), dtype)
  return tree, provenance.without_folders(about)
