"""Means over a set of images and labels, mini-batch by mini-batch."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from infusion_jax import random
from infusion_jax.training import devices

Array = jax.Array
PyTree = Any


def over_batches(
  evaluate: Callable[[Array, PyTree], PyTree],
  key: Array,
  rows: PyTree,
  batch_size: int,
  mesh: Mesh | None = None,
) -> PyTree:
  """The mean of `evaluate(key, batch)` over a set, weighted by batch size.

  The set is cut into batches as even as can be, so that no batch is so small
  that its statistics mean nothing; batch b gets `fold_in(key, b)`.

  Args:
    evaluate: maps a key and a batch of rows to a tree of means over the batch.
    key: the key.
    rows: images, or a tree of arrays [N, ...].
    batch_size: largest B.
    mesh: devices that share every batch.

  Returns:
    The tree of means over all N rows.
  """
  count = len(jax.tree.leaves(rows)[0])
  size = even_batch(count, batch_size)
  full = count // size

  def cut(leaf: Array) -> Array:
    return leaf[: full * size].reshape(full, size, *leaf.shape[1:])

  batches = devices.split(jax.tree.map(cut, rows), mesh, axis=1)
  total = zeros(evaluate, key, batches)
  total = add_batches(evaluate, total, key, batches, 0, count)
  left = count - full * size
  if not left:
    return total
  rest = devices.split(jax.tree.map(lambda leaf: leaf[full * size :], rows), mesh)
  values = evaluate(random.fold_in(key, full), rest)
  return jax.tree.map(lambda t, v: t + v * (left / count), total, values)


def zeros(
  evaluate: Callable[[Array, PyTree], PyTree], key: Array, batches: PyTree
) -> PyTree:
  """The total before the first of batches [S, B, ...]: zeros shaped like its means."""
  first = jax.tree.map(lambda leaf: leaf[0], batches)
  shapes = jax.eval_shape(evaluate, key, first)
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def add_batches(
  evaluate: Callable[[Array, PyTree], PyTree],
  total: PyTree,
  key: Array,
  batches: PyTree,
  first: Array | int,
  count: int,
) -> PyTree:
  """Adds batches [S, B, ...], the first of which has a number, to a mean over N."""
  steps, size = jax.tree.leaves(batches)[0].shape[:2]

  def body(total: PyTree, inputs: tuple[Array, PyTree]) -> tuple[PyTree, None]:
    index, batch = inputs
    values = evaluate(random.fold_in(key, index), batch)
    return jax.tree.map(lambda t, v: t + v * (size / count), total, values), None

  numbers = first + jnp.arange(steps)
  return jax.lax.scan(body, total, (numbers, batches))[0]


def even_batch(count: int, batch_size: int) -> int:
  """The size, at most `batch_size`, that cuts `count` images most evenly.

  A few more batches than necessary are accepted where they come out equal: one
  shape is compiled then instead of two.
  """
  fewest = math.ceil(count / batch_size)
  for batches in range(fewest, fewest + fewest // 4 + 2):
    if count % batches == 0:
      return count // batches
  return math.ceil(count / fewest)
