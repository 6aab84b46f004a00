import dataclasses

import numpy as np
import pytest

from infusion_jax.datasets import Dataset
from infusion_jax.errors import UserError


def images(*shape: int, value: int = 0) -> np.ndarray:
  return np.full(shape, value, np.uint8)


def test_splits_and_shape():
  train, validation, test = (images(n, 2, 3, 1, value=n) for n in (5, 2, 1))
  dataset = Dataset("toy", train, validation, test, 17)
  assert dataset.image_shape == (2, 3, 1)
  assert dataset.split("train") is train
  assert dataset.split("validation") is validation
  assert dataset.split("test") is test


def test_unknown_split_names_the_allowed_ones():
  dataset = Dataset("toy", *[images(1, 2, 2, 1)] * 3)
  with pytest.raises(UserError, match=r"split is 'valid'; .*train, validation, test"):
    dataset.split("valid")


def test_is_frozen():
  dataset = Dataset("toy", *[images(1, 2, 2, 1)] * 3)
  with pytest.raises(dataclasses.FrozenInstanceError):
    dataset.levels = 2


@pytest.mark.parametrize(
  ("test", "levels", "message"),
  [
    (images(0, 2, 2, 1), 256, r"split 'test' has shape \(0, 2, 2, 1\)"),
    (images(3, 2, 2), 256, r"split 'test' has shape \(3, 2, 2\); .*\[N, H, W, C\]"),
    (images(3, 2, 3, 1), 256, r"\(2, 3, 1\), the training split has \(2, 2, 1\)"),
    (np.zeros((3, 2, 2, 1)), 256, "split 'test' has dtype float64; allowed is uint8"),
    (images(3, 2, 2, 1, value=17), 17, "holds the value 17; .*allowed are 0 to 16"),
    (images(3, 2, 2, 1), 0, "levels is 0; allowed are 2 to 256"),
    (images(3, 2, 2, 1), 257, "levels is 257; allowed are 2 to 256"),
  ],
)
def test_unsound_splits_are_refused(test: np.ndarray, levels: int, message: str):
  with pytest.raises(UserError, match=message):
    Dataset("toy", images(4, 2, 2, 1), images(4, 2, 2, 1), test, levels)


def test_highest_value_is_allowed():
  Dataset("toy", *[images(1, 2, 2, 1, value=16)] * 3, 17)
