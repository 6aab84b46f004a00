"""What Orbax needs to be told or kept from; `checkpoints` says what is stored."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

PyTree = Any


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Keeps Orbax's threads from printing the traceback of what is raised anyway."""
  logger = logging.getLogger("absl")

  def not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname

  logger.addFilter(not_of_orbax)
  try:
    yield
  finally:
    logger.removeFilter(not_of_orbax)


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
  """Keeps Orbax from asking for TensorStore's counters, whose copies are never freed.

  With TensorStore 0.1.86 that is 0.05 MiB a checkpoint, all for a message of
  throughput that nobody sees.
  """
  name = "experimental_collect_matching_metrics"
  counters = getattr(tensorstore, name, None)
  if counters is None:
    yield
    return
  setattr(tensorstore, name, lambda *_, **__: [])
  try:
    yield
  finally:
    setattr(tensorstore, name, counters)


def alone() -> ocp.options.MultiprocessingOptions:
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


def as_one_process(tree: PyTree) -> PyTree:
  """A tree as Orbax takes it: of several processes only arrays of the host's."""
  if jax.process_count() == 1:
    return tree
  return jax.tree.map(np.asarray, tree)


def read_one_array(folder: pathlib.Path, like: PyTree) -> None:
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
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone())
  with ocp.Checkpointer(handler, multiprocessing_options=alone()) as checkpointer:
    checkpointer.restore(
      folder,
      ocp.args.PyTreeRestore(wanted, restore_args=arguments, partial_restore=True),
    )


def _sharding() -> jax.sharding.Sharding:
  """This process's first device, whatever the arrays were saved on."""
  return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def restore_like(tree: PyTree) -> ocp.args.StandardRestore:
  """The arguments that restore a tree of these shapes on this process's device."""
  sharding = _sharding()
  return ocp.args.StandardRestore(
    jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
  )
