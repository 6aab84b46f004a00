"""What is done at every epoch leaves nothing behind in memory."""

import gc

import jax.numpy as jnp

from infusion_jax.storage.checkpoints import Checkpoints

_SAVES = 5


def test_saving_leaves_nothing_in_memory(tmp_path):
  checkpoints = Checkpoints(tmp_path, write=True)
  tree = {"weights": jnp.ones((3, 4))}

  def save(first: int) -> int:
    """Objects that Python knows of after some saves."""
    for step in range(first, first + _SAVES):
      checkpoints.save(step, tree, tree, {})
    gc.collect()
    return len(gc.get_objects())

  save(1)
  before = save(1 + _SAVES)
  # A handful of paths are kept in caches; TensorStore's counters were 48 a save.
  assert save(1 + 2 * _SAVES) - before < 20 * _SAVES
  checkpoints.close()
