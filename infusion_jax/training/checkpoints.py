"""Checkpoints on disk. The only module that knows Orbax.

A checkpoint is a folder named by its optimizer step with three items: `model`
(weights, batch statistics, prior, rates: all that sampling needs), `training`
(the rest of the state) and `about` (JSON: format version, config, counters).
Nothing in it is code; reading one runs none.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
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
    options = ocp.CheckpointManagerOptions(
      max_to_keep=2 if write else None,
      keep_period=keep_period if write else None,
      create=write,
      cleanup_tmp_directories=write,
      save_root_metadata=write,
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
    self._manager.save(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardSave(model),
        training=ocp.args.StandardSave(training),
        about=ocp.args.JsonSave({"format_version": FORMAT_VERSION, **about}),
      ),
      force=True,
    )

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
    """The `model` item, with the structure, shapes and types of `like`."""
    return self._restore(step, model=_restore_like(like))["model"]

  def training(self, step: int, like: PyTree) -> PyTree:
    """The `training` item, with the structure, shapes and types of `like`."""
    return self._restore(step, training=_restore_like(like))["training"]

  def close(self) -> None:
    """Releases Orbax's threads."""
    if self._manager:
      self._manager.close()

  def _restore(self, step: int, **items: Any) -> Any:
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax raises whatever its readers raise.
      text = next(iter(str(error).strip().splitlines()), "")
      raise UserError(
        f"checkpoint {self.folder / str(step)} cannot be read: it is damaged or of"
        f" another model ({type(error).__name__}: {text})"
      ) from error


def _restore_like(tree: PyTree) -> ocp.args.StandardRestore:
  """Asks for arrays on this process's first device, whatever they were saved on."""
  sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return ocp.args.StandardRestore(
    jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
  )
