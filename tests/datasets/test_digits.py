import numpy as np
import pytest
from sklearn.datasets import load_digits

from infusion_jax import datasets
from infusion_jax.errors import UserError


@pytest.fixture(scope="module")
def digits() -> datasets.Dataset:
  return datasets.load("digits", "sklearn")


def test_counts_and_levels(digits: datasets.Dataset):
  assert digits.train.shape == (1257, 8, 8, 1)
  assert digits.validation.shape == (180, 8, 8, 1)
  assert digits.test.shape == (360, 8, 8, 1)
  assert digits.levels == 17
  assert digits.train.max() == 16


def test_every_image_is_in_one_split(digits: datasets.Dataset):
  found = np.concatenate([digits.train, digits.validation, digits.test])
  expected = load_digits().images[..., None]
  key = lambda images: sorted(image.astype(np.uint8).tobytes() for image in images)  # noqa: E731
  assert key(found) == key(expected)


def test_loading_twice_gives_the_same_splits(digits: datasets.Dataset):
  again = datasets.load("digits", "sklearn", "")
  np.testing.assert_array_equal(again.test, digits.test)


def test_other_names_and_paths_are_refused():
  with pytest.raises(UserError, match=r"data.name is 'mnist'; .*only 'digits'"):
    datasets.load("mnist", "sklearn")
  with pytest.raises(UserError, match=r"data.path is '/data'"):
    datasets.load("digits", "sklearn", "/data")
