"""Several processes for one run, on one machine or many.

All of them run the same program in step; each computes its share of every batch.
The first one alone writes, and what a process decides by itself (its clock, its
signals, what it finds on disk) is agreed on before it steers the program: processes
that disagree would wait for each other for ever. With one process all of this is
nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from infusion_jax.errors import UserError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Cluster:
  """The processes that train a run together; by default this one alone.

  Attributes:
    distributed: train with the other processes of this job, as SLURM, Open MPI, a
      TPU pod or Kubernetes describe them to JAX; the workdir must be a folder that
      all of them see.
    coordinator_address: host:port at which process 0 meets the others, where nothing
      describes the job; the next two are needed, too.
    num_processes: how many processes train together.
    process_id: which of them this is, from 0.
  """

  distributed: bool = False
  coordinator_address: str = ""
  num_processes: int = 0
  process_id: int = -1

  def __post_init__(self) -> None:
    named = (self.coordinator_address, self.num_processes, self.process_id)
    if named == ("", 0, -1):
      return
    if not self.coordinator_address or self.num_processes < 1:
      raise UserError(
        f"coordinator_address is {self.coordinator_address!r} and num_processes"
        f" {self.num_processes}; allowed are host:port and at least 1, or none of"
        " coordinator_address, num_processes and process_id"
      )
    if not 0 <= self.process_id < self.num_processes:
      raise UserError(
        f"process_id is {self.process_id}; it must lie between 0 and"
        f" {self.num_processes - 1}"
      )


def connect(cluster: Cluster) -> None:
  """Meets the other processes; to be called before anything else asks for a device.

  Raises:
    UserError: nothing describes the job, or not all came.
  """
  if cluster.coordinator_address:
    arguments = (
      cluster.coordinator_address,
      cluster.num_processes,
      cluster.process_id,
    )
  elif cluster.distributed:
    arguments = ()
  else:
    return
  try:
    jax.distributed.initialize(*arguments)
  except ValueError as error:
    raise UserError(
      f"distributed is set, but JAX cannot tell the job's processes ({error});"
      " coordinator_address, num_processes and process_id describe them"
    ) from error
  except RuntimeError as error:
    raise UserError(f"the processes of the job did not meet: {error}") from error


def is_first() -> bool:
  """Whether this is the process that writes."""
  return jax.process_index() == 0


def any_of(flag: bool) -> bool:
  """Whether any process says so."""
  return bool(_gathered(flag).any())


def of_first(value: T) -> T:
  """The first process's number."""
  return type(value)(_gathered(value)[0])


def on_first(action: Callable[[], T]) -> T | None:
  """Does something on the first process alone, while the others wait.

  Returns:
    Its result; None on the other processes.

  Raises:
    UserError: on the other processes, if it failed on the first.
  """
  if jax.process_count() == 1:
    return action()
  result = error = None
  if is_first():
    try:
      result = action()
    except Exception as caught:  # The other processes must hear of any error.
      error = caught
  failed = any_of(error is not None)
  if error is not None:
    raise error
  if failed:
    raise UserError("the first process could not go on; its own message says why")
  return result


def _gathered(value: bool | int | float) -> np.ndarray:
  """One number of each process, in their order."""
  if jax.process_count() == 1:
    return np.asarray([value])
  # Uses 64 bits, which JAX does not have by default.
  words = np.asarray(value, np.float64).reshape(1).view(np.uint32)
  words = np.ascontiguousarray(multihost_utils.process_allgather(words))
  return words.view(np.float64)[:, 0]
