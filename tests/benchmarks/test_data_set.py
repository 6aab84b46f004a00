"""The benchmark of large training sets: what it watches and what it trains on."""

import numpy as np

from benchmarks import data_set, own_memory
from infusion_jax.training import feeds


def test_memory_that_is_taken_for_a_moment_is_seen():
  with own_memory.watched() as seen:
    np.ones(2**23).sum()
  assert 2**25 < max(seen) - seen[0] < 2**27


def test_the_timed_steps_are_those_of_several_blocks(tmp_path, monkeypatch):
  monkeypatch.setattr(feeds, "BLOCK_BYTES", 2 * 128 * 3072)
  found = data_set.measure(tmp_path / "images", 700)
  assert found["bytes"] == 700 * 3072
  assert found["steps_of_a_block"] == 2
  assert found["peak_bytes"] > 2**27
  train = np.load(tmp_path / "images" / "train.npy")
  assert len(np.unique(train[:, 0], axis=0)) == 700
