"""How the training set reaches the devices: as a whole, or block by block.

Images that fit the devices lie on them. Others stay where they are, in memory or in
a memory-mapped file; while the devices train on one block of an epoch, a thread reads
the next one in the epoch's order. Which images make a batch is a function of seed and
step either way, and the bits of a run are the same.
"""

import concurrent.futures
import functools
from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infusion_jax import random
from infusion_jax.chain import Parameters
from infusion_jax.training import averages, devices, hosts, programs
from infusion_jax.training.state import Recipe, Run, TrainState

Array = jax.Array
PyTree = Any

#: Bytes of a block. Three are alive at a time: in use, read, and being read.
BLOCK_BYTES = 32 * 2**20
#: Of a device's memory, what images may fill before they are streamed.
_SHARE = 0.5


class Feed(Protocol):
  """A training set that training takes its batches from."""

  def advance(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    """Takes at most so many steps of one epoch, and says how many."""

  def population_statistics(self, parameters: Parameters) -> PyTree:
    """Batch statistics of the whole set; see `programs.population_statistics`."""

  def close(self) -> None:
    """Ends what reads ahead."""


def make(
  stream: str,
  recipe: Recipe,
  run: Run,
  images: np.ndarray,
  labels: np.ndarray | None = None,
) -> Feed:
  """The feed of a training set.

  Args:
    stream: "always", "never", or "auto": where the images would fill more than half
      of a device's memory.
    recipe: the program.
    run: the run's numbers, on the devices.
    images: [N, H, W, C] uint8, in memory or mapped into it.
    labels: of the images, [N]; None: the network has no classes.
  """
  share = images.nbytes / (recipe.mesh.size if recipe.mesh else 1)
  large = hosts.of_first(share > _SHARE * devices.free_memory())
  kind = Streamed if stream == "always" or (stream == "auto" and large) else Resident
  return kind(recipe, run, images, labels)


class Resident:
  """A training set that lies on the devices."""

  def __init__(
    self,
    recipe: Recipe,
    run: Run,
    images: np.ndarray,
    labels: np.ndarray | None = None,
  ) -> None:
    """Puts the images there; the arguments are those of `make`."""
    self._program, self._run = programs.compiled(recipe), run
    self._images, self._labels = (
      None if rows is None else devices.shared(rows, recipe.mesh)
      for rows in (images, labels)
    )

  def advance(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    """See `Feed`."""
    rows = self._images, np.asarray(most, np.int32), self._labels
    return self._program.train_steps(state, self._run, *rows), most

  def population_statistics(self, parameters: Parameters) -> PyTree:
    """See `Feed`."""
    rows = self._images, self._labels
    key = _population_key(self._run)
    return self._program.population_statistics(
      parameters, key, self._run.infusion, *rows
    )

  def close(self) -> None:
    """See `Feed`."""


class Streamed:
  """A training set that is read block by block.

  Attributes:
    steps: of a block.
  """

  def __init__(
    self,
    recipe: Recipe,
    run: Run,
    images: np.ndarray,
    labels: np.ndarray | None = None,
  ) -> None:
    """Reads nothing yet; the arguments are those of `make`."""
    self._recipe, self._run, self._rows = recipe, run, (images, labels)
    self._count = len(images)
    self._program = programs.compiled(recipe)
    self._key = devices.local(run, recipe.mesh).key
    self._per_epoch = self._count // recipe.batch_size
    self.steps = _even(self._per_epoch, self._most(recipe.batch_size))
    self._reader = concurrent.futures.ThreadPoolExecutor(1, "reader")
    self._blocks: dict[int, concurrent.futures.Future] = {}
    self._order = functools.lru_cache(maxsize=1)(self._new_order)

  def advance(self, state: TrainState, most: int) -> tuple[TrainState, int]:
    """See `Feed`; not beyond the end of a block."""
    step = int(state.step)
    first = step - step % self._per_epoch % self.steps
    size = min(most, first + self.steps - step)
    state = self._program.train_block(
      state, self._run, self._block(first), *np.asarray([first, size], np.int32)
    )
    return state, size

  def population_statistics(self, parameters: Parameters) -> PyTree:
    """See `Feed`."""
    if self._recipe.peer:
      return {}
    count, key = self._count, _population_key(self._run)
    total = None
    for first, block in self._in_order():
      total = self._program.add_statistics(
        total, parameters, key, self._run.infusion, block, first, count
      )
      # Blocks would pile up: they are read faster than they are worked on.
      jax.block_until_ready(total)
    return total

  def _in_order(self) -> Iterator[tuple[np.int32, PyTree]]:
    """Blocks of the whole set and the number of their first batch, one read ahead."""
    size = averages.even_batch(self._count, self._recipe.batch_size)
    most, full = self._most(size), self._count // size
    parts = [(n, min(most, full - n), size) for n in range(0, full, most)]
    if rest := self._count % size:
      parts.append((full, 1, rest))

    def read(first: int, batches: int, each: int) -> tuple[np.int32, PyTree]:
      rows = np.arange(first * size, first * size + batches * each)
      return np.int32(first), self._placed(rows.reshape(batches, each))

    ahead = self._reader.submit(read, *parts[0])
    for part in parts[1:]:
      found, ahead = ahead, self._reader.submit(read, *part)
      yield found.result()
    yield ahead.result()

  def close(self) -> None:
    """See `Feed`."""
    self._reader.shutdown(cancel_futures=True)
    self._blocks.clear()

  def _block(self, first: int) -> PyTree:
    """The batches of the block that begins with a step; the next one is begun."""
    end_of_epoch = first - first % self._per_epoch + self._per_epoch
    wanted = first, min(first + self.steps, end_of_epoch)
    self._blocks = {
      step: self._blocks.get(step) or self._reader.submit(self._read, step)
      for step in wanted
    }
    return self._blocks[first].result()

  def _read(self, first: int) -> PyTree:
    """The batches [S, B, ...] of all steps of a block, in the order of the epoch."""
    batch_size = self._recipe.batch_size
    begin = first % self._per_epoch * batch_size
    places = np.arange(begin, begin + self.steps * batch_size)
    # An epoch's last block is filled up with what no step will take.
    places = np.minimum(places, self._count - 1)
    rows = self._order(first // self._per_epoch)[places]
    return self._placed(rows.reshape(self.steps, batch_size))

  def _new_order(self, epoch: int) -> np.ndarray:
    return np.asarray(_epoch_order(self._key, epoch, self._count))

  def _placed(self, numbers: np.ndarray) -> PyTree:
    """Images and labels by their numbers [S, B] on devices that share each batch."""
    mesh = self._recipe.mesh

    def put(rows: np.ndarray) -> Array:
      if mesh is None:
        return jax.device_put(rows[numbers])
      return jax.make_array_from_callback(
        (*numbers.shape, *rows.shape[1:]),
        _batches_sharding(mesh, numbers.shape[1]),
        lambda index: rows[numbers[index[:2]]],
      )

    return jax.tree.map(put, self._rows)

  def _most(self, batch_size: int) -> int:
    """Batches that a block has room for."""
    return max(1, BLOCK_BYTES // (batch_size * self._rows[0][0].nbytes))


_epoch_order = jax.jit(programs.epoch_order, static_argnums=2)


def _population_key(run: Run) -> Array:
  return random.named(run.key, "population")


def _batches_sharding(mesh: Mesh, batch_size: int) -> NamedSharding:
  """Where [S, B, ...] lies; on all devices alike if they cannot share B evenly."""
  spec = (None, devices.AXIS) if batch_size % mesh.size == 0 else ()
  return NamedSharding(mesh, PartitionSpec(*spec))


def _even(count: int, most: int) -> int:
  """The size of the fewest parts, at most `most` each, that are about equal."""
  return -(-count // -(-count // most))
