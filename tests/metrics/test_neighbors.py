"""Nearest neighbours against comparing one by one."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from infusion_jax.errors import UserError
from infusion_jax.metrics import neighbors


def one_by_one(queries, train, levels):
  """Distances of every pair, [N, M]."""
  scaled = train.astype(np.float64) / levels
  return np.array([[np.sqrt(np.sum((q - t) ** 2)) for t in scaled] for q in queries])


@hypothesis.settings(max_examples=30)
@hypothesis.given(
  count=st.integers(1, 9),
  size=st.integers(1, 40),
  channels=st.sampled_from([1, 3]),
  chunk_size=st.none() | st.integers(1, 45),
  seed=st.integers(0, 1000),
)
def test_every_query_gets_the_smallest_distance(
  count, size, channels, chunk_size, seed
):
  generator = np.random.default_rng(seed)
  queries = generator.uniform(0, 1, (count, 3, 2, channels)).astype(np.float32)
  train = generator.integers(0, 17, (size, 3, 2, channels), dtype=np.uint8)
  distances = one_by_one(queries, train, 17)
  found = neighbors.nearest(queries, train, 17, chunk_size=chunk_size)
  np.testing.assert_allclose(found.distance, distances.min(1), rtol=1e-12)
  np.testing.assert_array_equal(found.index, distances.argmin(1))


def test_a_copied_image_is_found_out():
  train = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 1), dtype=np.uint8)
  copied = [3, 499, 0, 250]
  found = neighbors.nearest(train[copied] / 256, train, 256, chunk_size=64)
  np.testing.assert_array_equal(found.index, copied)
  np.testing.assert_array_equal(found.distance, 0.0)


def test_a_grey_level_more_or_less_is_told_apart():
  """Float32 would lose this difference in |q|^2 - 2 q.t + |t|^2."""
  base = np.full((1, 64, 64, 3), 200, np.uint8)
  train = np.repeat(base, 3, axis=0)
  train[0, 0, 0, 0] += 2
  train[2, 0, 0, 0] += 1
  query = train[2:] / 256
  found = neighbors.nearest(query, train, 256)
  assert found.index[0] == 2
  assert found.distance[0] == 0.0


@pytest.mark.parametrize(
  ("queries", "train"),
  [((2, 4, 4, 1), (5, 4, 4, 3)), ((0, 4, 4, 1), (5, 4, 4, 1)), ((2, 4), (0, 4))],
)
def test_images_that_do_not_fit_are_refused(queries, train):
  with pytest.raises(UserError, match="equal height, width and channels"):
    neighbors.nearest(np.zeros(queries), np.zeros(train, np.uint8), 256)
