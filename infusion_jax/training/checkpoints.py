"""Checkpoints on disk. The only module that knows Orbax.

A checkpoint is a folder named by its optimizer step with three items: `model`
(weights, batch statistics, prior, rates: all that sampling needs), `training`
(the rest of the state) and `about` (JSON: format version, config, counters, a
checksum of the model). An exported checkpoint has no `training`. Nothing in one
is code; reading one runs none.
"""

import pathlib
import textwrap
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from infusion_jax.errors import UserError

PyTree = Any

#: Raised whenever the meaning of what is stored changes.
FORMAT_VERSION = 1

FOLDER = "checkpoints"


class Checkpoints:
  """The checkpoints of one workdir."""

  def __init__(
    self, workdir: pathlib.Path, *, keep_period: int | None = None, write: bool = False
  ):
    """Opens the folder; with `write`, makes it and clears what a kill left behind.

    Args:
      workdir: the run's folder.
      keep_period: checkpoints at multiples of so many steps are kept for good;
        of the others the newest two.
      write: whether this process will save.
    """
    self.folder = pathlib.Path(workdir).resolve() / FOLDER
    if write:
      self.folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
      create=False,
      max_to_keep=2 if write else None,
      keep_period=keep_period if write else None,
      cleanup_tmp_directories=write,
      save_root_metadata=write,
      multiprocessing_options=_alone(),
      # Waiting costs little and a step in the list is then a step on disk.
      enable_async_checkpointing=False,
    )
    self._manager = None
    if write or self.folder.is_dir():
      self._manager = ocp.CheckpointManager(self.folder, options=options)

  def steps(self) -> list[int]:
    """The steps there are complete checkpoints of, in order."""
    return sorted(self._manager.all_steps()) if self._manager else []

  def save(
    self, step: int, model: PyTree, training: PyTree, about: Mapping[str, Any]
  ) -> None:
    """Saves a checkpoint; when this returns it is on disk."""
    self._save(step, model, about, training=training)

  def export(self, step: int, model: PyTree, about: Mapping[str, Any]) -> None:
    """Saves a checkpoint to sample from: no training state, no path of this machine."""
    self._save(step, model, about)
    for note in (self.folder / str(step)).rglob("commit_success.txt"):
      note.write_text("Checkpoint commit was successful\n")

  def about(self, step: int) -> dict[str, Any]:
    """The description stored with a checkpoint.

    Raises:
      UserError: it is damaged, or of a format this version cannot read.
    """
    about = self._restore(step, about=ocp.args.JsonRestore())["about"]
    version = about.get("format_version") if isinstance(about, dict) else None
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
      raise UserError(
        f"checkpoint {self.folder / str(step)} has format version {version};"
        f" this version of infusion_jax reads 1 to {FORMAT_VERSION}"
      )
    return about

  def model(self, step: int, like: PyTree) -> PyTree:
    """The `model` item, with the structure, shapes and types of `like`.

    Raises:
      UserError: it is damaged, or of another model.
    """
    model = self._arrays(step, "model", like)
    expected = self.about(step).get("checksum")
    if expected is not None and checksum(model) != expected:
      raise UserError(
        f"checkpoint {self.folder / str(step)} is damaged: its checksum is"
        f" {checksum(model)}, not {expected}"
      )
    return model

  def training(self, step: int, like: PyTree) -> PyTree:
    """The `training` item, with the structure, shapes and types of `like`.

    Raises:
      UserError: it is missing, damaged, or of another model.
    """
    return self._arrays(step, "training", like)

  def close(self) -> None:
    """Releases Orbax's threads."""
    if self._manager:
      self._manager.close()

  def _save(
    self, step: int, model: PyTree, about: Mapping[str, Any], **items: PyTree
  ) -> None:
    facts = {**about, "format_version": FORMAT_VERSION, "checksum": checksum(model)}
    trees = _as_one_process({"model": model, **items})
    self._manager.save(
      step,
      args=ocp.args.Composite(
        about=ocp.args.JsonSave(facts),
        **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
      ),
      force=True,
    )

  def _arrays(self, step: int, item: str, like: PyTree) -> PyTree:
    folder = self.folder / str(step)
    try:
      _read_one_array(folder / item, like)
    except Exception as error:
      raise _unreadable(folder, error) from error
    return self._restore(step, **{item: _restore_like(like)})[item]

  def _restore(self, step: int, **items: Any) -> Any:
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax raises whatever its readers raise.
      raise _unreadable(self.folder / str(step), error) from error


def checksum(tree: PyTree) -> str:
  """CRC-32 of all leaves in the order of their names, eight hexadecimal digits."""
  value = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    value = zlib.crc32(jax.tree_util.keystr(path).encode(), value)
    value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
  return f"{value:08x}"


def _alone() -> ocp.options.MultiprocessingOptions:
  """Has Orbax work for this process alone, whichever others train with it.

  The state is the same everywhere: one process writes it, and each reads it for
  itself. A checkpoint then does not show how many processes there were.
  """
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  index = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=index,
    active_processes={index},
    barrier_sync_key_prefix=f"process_{index}",
  )


def _as_one_process(tree: PyTree) -> PyTree:
  """A tree as Orbax takes it: of several processes only arrays of the host's."""
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(np.asarray, tree)


def _unreadable(folder: pathlib.Path, error: Exception) -> UserError:
  text = textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" ...")
  return UserError(
    f"checkpoint {folder} cannot be read: it is damaged or of another model ({text})"
  )


def _read_one_array(folder: pathlib.Path, like: PyTree) -> None:
  """Reads the largest array alone, and raises whatever Orbax raises.

  When many arrays cannot be read at once, Orbax's threads go on printing
  tracebacks after the error has been reported; with a single one they do not.
  """
  leaves = jax.tree_util.tree_leaves_with_path(like)
  path, wanted = max(leaves, key=lambda item: item[1].size)
  arguments = ocp.ArrayRestoreArgs(sharding=_sharding())
  for key in reversed(path):
    name = jax.tree_util.keystr((key,), simple=True)
    wanted, arguments = {name: wanted}, {name: arguments}
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
  with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer:
    checkpointer.restore(
      folder,
      ocp.args.PyTreeRestore(wanted, restore_args=arguments, partial_restore=True),
    )


def _sharding() -> jax.sharding.Sharding:
  """This process's first device, whatever the arrays were saved on."""
  return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def _restore_like(tree: PyTree) -> ocp.args.StandardRestore:
  sharding = _sharding()
  return ocp.args.StandardRestore(
    jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
  )
