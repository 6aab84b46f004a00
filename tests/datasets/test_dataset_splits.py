import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infusion_jax.datasets import splits
from infusion_jax.errors import UserError


@given(st.integers(2, 200_000))
def test_validation_is_the_end_of_training(total: int):
  train, validation = splits.carve_validation(np.arange(total), "file")
  assert 1 <= len(validation) <= 10_000
  assert len(validation) in (1, total // 6, 10_000)
  np.testing.assert_array_equal(np.concatenate([train, validation]), np.arange(total))


def test_mnist_is_split_50_to_10():
  train, validation = splits.carve_validation(np.arange(60_000), "file")
  assert (len(train), len(validation), validation[0]) == (50_000, 10_000, 50_000)


@given(st.integers(3, 5000))
def test_shuffled_splits_are_a_partition(total: int):
  parts = splits.split_shuffled(np.arange(total), "file")
  assert all(len(part) > 0 for part in parts)
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(total))


def test_permutation_never_changes():
  # These values may not differ on any machine or with any NumPy.
  assert splits.fixed_permutation(10).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


def test_too_few_images_are_refused():
  with pytest.raises(UserError, match="file has 1 images"):
    splits.carve_validation(np.arange(1), "file")
  with pytest.raises(UserError, match="file has 2 images"):
    splits.split_shuffled(np.arange(2), "file")
