"""Several devices for one run: a mesh, and what lies where on it.

Every mini-batch is shared out along the mesh's one axis; parameters and everything
else of the state are on all devices alike. The compiled program is the one of a
single device with a note where the batch lies: the compiler adds the sums over
devices, so that a loss, a gradient or a batch statistic is that of the whole
batch. Without a mesh it marks nothing, and the program is that of one device.

A data set is shared out, too: every device holds 1/D of the images, each host reads
its own devices' part into them, and a mini-batch is brought together by a sum over
bytes (`taken`). Which images make a batch is a
function of seed and step alone, on any number of devices.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from infusion_jax.errors import UserError

Array = jax.Array
PyTree = Any

#: The axis of the mesh that batches and data sets are shared out along.
AXIS = "data"


@functools.partial(
  jax.tree_util.register_dataclass, data_fields=["filled"], meta_fields=["count"]
)
@dataclasses.dataclass(frozen=True)
class Shared:
  """Rows of which every device holds an equal part.

  Attributes:
    filled: the rows, and zeros that make the parts equal, [N', ...].
    count: N, how many are rows.
  """

  filled: Array
  count: int

  def __len__(self) -> int:
    return self.count


Images = Array | Shared


def make_mesh(num_devices: int = 0, batch_size: int | None = None) -> Mesh | None:
  """The devices of one run, as many of each process as of the others.

  Args:
    num_devices: how many of all processes together; 0: all.
    batch_size: images per step, which the devices must be able to share evenly.

  Returns:
    The mesh; None for a single device.

  Raises:
    UserError: there are not so many, or they do not share a batch evenly.
  """
  there, processes = jax.device_count(), jax.process_count()
  count = num_devices or there
  if not 1 <= count <= there or count % processes:
    hosts = f", a multiple of {processes} processes" if processes > 1 else ""
    raise UserError(
      f"num_devices is {num_devices}; it must lie between 1 and {there}, the number of"
      f" {jax.default_backend()} devices{hosts}"
    )
  if batch_size and batch_size % count:
    even = [n for n in range(processes, there + 1, processes) if not batch_size % n]
    raise UserError(
      f"train.batch_size is {batch_size}, which {count} devices cannot share evenly;"
      f" with it num_devices can be {', '.join(map(str, even)) or 'nothing here'}"
    )
  if count == 1:
    return None
  devices = _some_of_every_process(count // processes)
  return jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=devices)


def parse_mesh(text: str) -> int:
  """The number of devices that a mesh like "data:8" asks for.

  Raises:
    UserError: it is written otherwise.
  """
  name, _, size = text.partition(":")
  if name != AXIS or not size.isdecimal() or not int(size):
    raise UserError(
      f"mesh is {text!r}; allowed is {AXIS}:N, N devices that share every batch"
    )
  return int(size)


def split(rows: PyTree, mesh: Mesh | None, axis: int = 0) -> PyTree:
  """Notes, in a compiled function, that devices share arrays along an axis."""
  if mesh is None:
    return rows
  spec = PartitionSpec(*[None] * axis, AXIS)
  return jax.lax.with_sharding_constraint(rows, NamedSharding(mesh, spec))


def taken(images: Images, numbers: Array, mesh: Mesh | None) -> Array:
  """A batch of images by their numbers, in a compiled function.

  Each device looks up those that it holds, and gets its share of the sum over devices.
  Left to itself the compiler may bring all images to every device.

  Args:
    images: [N, ...].
    numbers: [B], which the devices share evenly.
    mesh: of the images, if they are `Shared`.

  Returns:
    [B, ...], shared out along the mesh.
  """
  if not isinstance(images, Shared):
    return split(images[numbers], mesh)

  def share(rows: Array, numbers: Array) -> Array:
    places = numbers - jax.lax.axis_index(AXIS) * len(rows)
    own = (places >= 0) & (places < len(rows))
    places = jnp.clip(places, 0, len(rows) - 1)
    # Flat rows are padded less on a TPU, which copies what becomes flat: the fewer.
    if len(numbers) < len(rows):
      found = rows[places].reshape(len(numbers), -1)
    else:
      found = rows.reshape(len(rows), -1)[places]
    found = jnp.where(own[:, None], found, 0)
    part = jax.lax.psum_scatter(found, AXIS, tiled=True)
    return part.reshape(-1, *rows.shape[1:])

  along, everywhere = PartitionSpec(AXIS), PartitionSpec()
  gathered = jax.shard_map(
    share, mesh=mesh, in_specs=(along, everywhere), out_specs=along
  )
  return gathered(images.filled, numbers)


def compiled(
  function: Callable, mesh: Mesh | None, *, fills: bool = False, **options: Any
) -> Callable[..., PyTree]:
  """`jax.jit` for a mesh: results are on all devices, images may be `Shared`.

  Args:
    function: to be compiled.
    mesh: the devices; None: one.
    fills: whether the function takes `Shared` images itself, instead of their rows.
    **options: of `jax.jit`.
  """
  if mesh is None:
    return jax.jit(function, **options)

  @functools.wraps(function)
  def whole(*arguments: PyTree) -> PyTree:
    return function(*(arguments if fills else map(_rows, arguments)))

  return jax.jit(whole, out_shardings=NamedSharding(mesh, PartitionSpec()), **options)


def copied(tree: PyTree, mesh: Mesh | None) -> PyTree:
  """Puts a tree on all devices, in buffers of its own; without a mesh, as it is."""
  if mesh is None:
    return tree
  everywhere = NamedSharding(mesh, PartitionSpec())
  put = jax.jit(lambda leaves: jax.tree.map(jnp.copy, leaves), out_shardings=everywhere)
  return jax.tree.map(_wrapped, tree, put(jax.tree.map(_numbers, tree)))


def shared(images: np.ndarray, mesh: Mesh | None) -> Images:
  """Puts every device's part of images on it; without a mesh, all on the device.

  Args:
    images: [N, ...], of which a process reads what its devices hold.
    mesh: the devices.
  """
  if mesh is None or not len(images):
    return jnp.asarray(images)
  size = -(-len(images) // mesh.size)
  shape = (size * mesh.size, *images.shape[1:])

  def part(index: tuple[slice, ...]) -> np.ndarray:
    rows = images[index[0]]
    missing = size - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))

  sharding = NamedSharding(mesh, PartitionSpec(AXIS))
  return Shared(jax.make_array_from_callback(shape, sharding, part), len(images))


def free_memory() -> int:
  """Bytes that are free on the first device where it tells; else half the machine's."""
  told = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" in told:
    return told["bytes_limit"] - told.get("bytes_in_use", 0)
  return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def local(tree: PyTree, mesh: Mesh | None) -> PyTree:
  """A tree that is on all devices, as this process's first one has it."""
  if mesh is None:
    return tree
  return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _some_of_every_process(count: int) -> list[jax.Device]:
  """The first devices of each process, in the order of the processes."""
  return [
    device
    for index in range(jax.process_count())
    for device in [d for d in jax.devices() if d.process_index == index][:count]
  ]


def _rows(argument: PyTree) -> PyTree:
  """Images without what fills them up; anything else as it is."""
  if isinstance(argument, Shared):
    return argument.filled[: argument.count]
  return argument


def _is_key(leaf: Any) -> bool:
  return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  )


def _numbers(leaf: Any) -> np.ndarray:
  """The host's copy of an array, or of the data of keys."""
  return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _wrapped(leaf: Any, placed: Array) -> Array:
  """What `_numbers` was taken from, made of numbers placed elsewhere."""
  if not _is_key(leaf):
    return placed
  return jax.random.wrap_key_data(placed, impl=jax.random.key_impl(leaf))
