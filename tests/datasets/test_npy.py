"""Mapped arrays: the same images as loaded ones, and nothing read in advance."""

import numpy as np
import pytest

from infusion_jax import datasets
from infusion_jax.errors import UserError

IMAGES = np.arange(12 * 6, dtype=np.uint8).reshape(12, 2, 3)


def save(folder, **splits):
  for name, images in splits.items():
    np.save(folder / f"{name}.npy", images)
  return datasets.load("toy", "npy", str(folder))


def is_mapped(images):
  while not isinstance(images, np.memmap):
    images = images.base
  return images.mode == "r"


def test_three_files_are_three_splits(tmp_path):
  found = save(tmp_path, train=IMAGES, validation=IMAGES[:3], test=IMAGES[4:])
  np.testing.assert_array_equal(found.train, IMAGES[..., None])
  np.testing.assert_array_equal(found.validation, IMAGES[:3, ..., None])
  np.testing.assert_array_equal(found.test, IMAGES[4:, ..., None])
  assert all(map(is_mapped, (found.train, found.validation, found.test)))


def test_without_validation_it_is_cut_off_the_training_images(tmp_path):
  found = save(tmp_path, train=IMAGES, test=IMAGES)
  np.testing.assert_array_equal(found.train, IMAGES[:10, ..., None])
  np.testing.assert_array_equal(found.validation, IMAGES[10:, ..., None])
  assert is_mapped(found.train)


def test_an_object_array_is_not_unpickled(tmp_path):
  with pytest.raises(UserError, match="train.npy: cannot be read"):
    save(tmp_path, train=np.array([{}]), test=IMAGES)
