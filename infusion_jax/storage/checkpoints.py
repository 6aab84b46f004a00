"""Checkpoints on disk. Only this module and `orbax_quirks` know Orbax.

A checkpoint is a folder named by its optimizer step with three items: `model`
(weights, batch statistics, prior, rates: all that sampling needs), `training`
(the rest of the state) and `about` (JSON: format version, config, counters, and
checksums of all three). An exported checkpoint has no `training`. Nothing in one
is code; reading one runs none, and takes no more memory than its files justify.
"""

import json
import logging
import pathlib
import shutil
import textwrap
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from infusion_jax.errors import UserError
from infusion_jax.storage import orbax_quirks

PyTree = Any
T = TypeVar("T")

#: Raised whenever the meaning of what is stored changes. 2: every item has a checksum.
FORMAT_VERSION = 2

FOLDER = "checkpoints"
#: Where damaged checkpoints are put when their run goes on without them.
DAMAGED_FOLDER = "checkpoints_damaged"

_LOGGER = logging.getLogger(__name__)
# Arrays so small are read whatever their files look like; larger ones cannot have
# been packed tighter than so many to one: weights look like noise.
_HARMLESS_BYTES = 64 << 20
_LARGEST_RATIO = 100
# Weights are hardly packed at all; files of their own take some room, too.
_PACKED, _OVERHEAD_BYTES = 0.9, 1 << 16
_CLEARING_TRIES, _CLEARING_SECONDS = 20, 0.1
_ABOUT_CHECKSUM = "about_checksum"
_OURS = ("format_version", "checksum", "training_checksum", _ABOUT_CHECKSUM)


class DamagedError(UserError):
  """A checkpoint that is not what was written; an older one may be whole."""


class Checkpoints:
  """The checkpoints of one workdir."""

  def __init__(
    self, workdir: pathlib.Path, *, keep_period: int | None = None, write: bool = False
  ) -> None:
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
      multiprocessing_options=orbax_quirks.alone(),
      # Waits for the write, so that every step in the list is on disk.
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
    """Saves a checkpoint; when this returns it is on disk.

    Raises:
      UserError: it cannot be written; those there are stay as they were.
    """
    self._save(step, model, about, training=training)

  def export(self, step: int, model: PyTree, about: Mapping[str, Any]) -> None:
    """Saves a checkpoint to sample from: no training state, no path of this machine."""
    self._save(step, model, about)
    for note in (self.folder / str(step)).rglob("commit_success.txt"):
      note.write_text("Checkpoint commit was successful\n")

  def about(self, step: int) -> dict[str, Any]:
    """The description stored with a checkpoint.

    Raises:
      DamagedError: it is damaged.
      UserError: it is of a format this version cannot read.
    """
    about = self._restore(step, about=ocp.args.JsonRestore())["about"]
    return checked_about(about, f"checkpoint {self.folder / str(step)}")

  def model(self, step: int, like: PyTree) -> PyTree:
    """The `model` item, with the structure, shapes and types of `like`.

    Raises:
      DamagedError: it is damaged, or of another model.
    """
    folder = self.folder / str(step)
    _check_size(folder / "model", like)
    model = self._arrays(step, "model", like)
    check_model(f"checkpoint {folder}", self.about(step), model)
    return model

  def training(self, step: int, like: PyTree) -> PyTree:
    """The `training` item, with the structure, shapes and types of `like`.

    Raises:
      DamagedError: it is missing, damaged, or of another model.
    """
    training = self._arrays(step, "training", like)
    where = f"checkpoint {self.folder / str(step)}"
    _check_arrays(where, self.about(step), "training_checksum", training)
    return training

  def newest(self, read: Callable[[int], T]) -> tuple[int, T] | None:
    """The newest checkpoint that is not damaged; damaged ones make room for others.

    Args:
      read: reads a step, and raises `DamagedError` where that cannot be.

    Returns:
      The step and what was read; None if there is no checkpoint.

    Raises:
      DamagedError: that of the newest, if all are damaged.
    """
    steps = self.steps()
    if not steps:
      return None
    step, found, damaged = newest_intact(steps, read)
    for other in damaged:
      self.set_aside(other)
    return step, found

  def set_aside(self, step: int) -> None:
    """Moves a damaged checkpoint out of the way of the one that will replace it."""
    place = self.folder.with_name(DAMAGED_FOLDER) / str(step)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    (self.folder / str(step)).rename(place)
    self._manager.reload()

  def close(self) -> None:
    """Releases Orbax's threads."""
    if self._manager:
      self._manager.close()

  def _save(
    self, step: int, model: PyTree, about: Mapping[str, Any], **items: PyTree
  ) -> None:
    trees = orbax_quirks.as_one_process({"model": model, **items})
    arguments = ocp.args.Composite(
      about=ocp.args.JsonSave(described(about, model, items.get("training"))),
      **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
    )
    self._check_space(step, trees)
    with orbax_quirks.quiet(), orbax_quirks.uncounted():
      try:
        self._manager.save(step, args=arguments, force=True)
      except (
        Exception
      ) as error:  # Orbax raises many kinds of errors when the disk is full.
        self._clear(step)
        raise UserError(
          f"checkpoint {self.folder / str(step)} cannot be written ({_short(error)})"
        ) from error

  def _check_space(self, step: int, trees: PyTree) -> None:
    """Raises UserError where a disk is too full to begin."""
    wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
    free = shutil.disk_usage(self.folder).free
    if free < _PACKED * wanted + _OVERHEAD_BYTES:
      raise UserError(
        f"checkpoint {self.folder / str(step)} cannot be written: No space left on"
        f" device, which has {free:,} bytes for one of {wanted:,}"
      )

  def _clear(self, step: int) -> None:
    """Removes what is left of a checkpoint that could not be written."""
    for _ in range(_CLEARING_TRIES):
      left = list(self.folder.glob(f"{step}.*"))
      if not left:
        return
      for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
      # Threads of Orbax may still be writing.
      time.sleep(_CLEARING_SECONDS)

  def _arrays(self, step: int, item: str, like: PyTree) -> PyTree:
    folder = self.folder / str(step)
    try:
      orbax_quirks.read_one_array(folder / item, like)
    except Exception as error:
      raise _unreadable(folder, error) from error
    return self._restore(step, **{item: orbax_quirks.restore_like(like)})[item]

  def _restore(self, step: int, **items: Any) -> Any:
    try:
      return self._manager.restore(step, args=ocp.args.Composite(**items))
    except (
      Exception
    ) as error:  # Orbax passes on the errors of its readers, which are of many kinds.
      raise _unreadable(self.folder / str(step), error) from error


def newest_intact(
  steps: Sequence[int], read: Callable[[int], T]
) -> tuple[int, T, list[int]]:
  """Reads the newest checkpoint that is not damaged, and says so if it is not the last.

  Args:
    steps: in order, not empty.
    read: reads a step, and raises `DamagedError` where that cannot be.

  Returns:
    The step, what was read, and the newer steps that are damaged.

  Raises:
    DamagedError: that of the newest, if all are damaged.
  """
  damaged: dict[int, DamagedError] = {}
  for step in reversed(steps):
    try:
      found = read(step)
    except DamagedError as error:
      damaged[step] = error
      continue
    for error in damaged.values():
      _LOGGER.warning("%s; the checkpoint of step %d takes its place", error, step)
    return step, found, list(damaged)
  raise damaged[steps[-1]]


def checksum(tree: PyTree) -> str:
  """CRC-32 of all leaves in the order of their names, eight hexadecimal digits."""
  value = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    value = zlib.crc32(jax.tree_util.keystr(path).encode(), value)
    value = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), value)
  return f"{value:08x}"


def checked_about(about: Any, where: str) -> dict[str, Any]:
  """A description as it was read, if it is one that `described` made.

  Args:
    about: what was read.
    where: it stands, for messages: "checkpoint DIR" or "file PATH".

  Raises:
    DamagedError: it is damaged.
    UserError: it is of a format this version cannot read.
  """
  version = about.get("format_version") if isinstance(about, dict) else None
  if not isinstance(version, int) or version < 1:
    raise DamagedError(f"{where} is damaged: it has format version {version}")
  if version > FORMAT_VERSION:
    raise UserError(
      f"{where} has format version {version};"
      f" this version of infusion_jax reads 1 to {FORMAT_VERSION}"
    )
  if version > 1:
    _check(where, "description", about.get(_ABOUT_CHECKSUM), _text_checksum(about))
  return about


def check_model(where: str, about: Mapping[str, Any], model: PyTree) -> None:
  """Raises DamagedError where a `model` item is not the one its description is of."""
  _check_arrays(where, about, "checksum", model)


def _check_arrays(
  where: str, about: Mapping[str, Any], name: str, tree: PyTree
) -> None:
  # The first format had a checksum of the model at most.
  if about["format_version"] > 1 or name in about:
    what = "model" if name == "checksum" else "training state"
    _check(where, what, about.get(name), checksum(tree))


def described(
  about: Mapping[str, Any], model: PyTree, training: PyTree | None = None
) -> dict[str, Any]:
  """The description with format version and checksums of its own checkpoint."""
  facts = {key: value for key, value in about.items() if key not in _OURS}
  facts["format_version"] = FORMAT_VERSION
  facts["checksum"] = checksum(model)
  if training is not None:
    facts["training_checksum"] = checksum(training)
  return {**facts, _ABOUT_CHECKSUM: _text_checksum(facts)}


def _text_checksum(about: Mapping[str, Any]) -> str:
  facts = {key: value for key, value in about.items() if key != _ABOUT_CHECKSUM}
  return f"{zlib.crc32(json.dumps(facts, sort_keys=True).encode()):08x}"


def _check(where: str, what: str, expected: Any, found: str) -> None:
  if found != expected:
    raise DamagedError(
      f"{where} is damaged: the checksum of its {what} is {found}, not {expected}"
    )


def _check_size(folder: pathlib.Path, like: PyTree) -> None:
  """Raises DamagedError before files of a few bytes unfold to a whole memory."""
  wanted = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
  there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
  if wanted > max(_HARMLESS_BYTES, there * _LARGEST_RATIO):
    raise DamagedError(
      f"checkpoint {folder.parent} is damaged: its model of {wanted:,} bytes cannot"
      f" be in files of {there:,}"
    )


def _short(error: Exception) -> str:
  return textwrap.shorten(f"{type(error).__name__}: {error}", 120, placeholder=" ...")


def _unreadable(folder: pathlib.Path, error: Exception) -> DamagedError:
  return DamagedError(
    f"checkpoint {folder} cannot be read: it is damaged or of another model"
    f" ({_short(error)})"
  )
