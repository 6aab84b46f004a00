import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import io

from infusion_jax import datasets
from infusion_jax.config import DataConfig
from infusion_jax.errors import UserError

IMAGES = np.arange(20 * 6, dtype=np.uint8).reshape(20, 3, 2)
FOLDS = np.stack([np.roll(np.arange(20) % 4, k) for k in range(5)], 1).astype(np.uint8)


def load(path: pathlib.Path, **options) -> datasets.Dataset:
  return datasets.load("tfd", "mat", str(path), **options)


def save(path: pathlib.Path, **arrays) -> pathlib.Path:
  io.savemat(path, {"labs_ex": np.ones((20, 1)), **arrays}, do_compression=True)
  return path


@pytest.mark.parametrize("fold", [1, 2, 5])
def test_folds(tmp_path, fold):
  path = save(tmp_path / "tfd.mat", images=IMAGES, folds=FOLDS)
  dataset = load(path, fold=fold)
  member = FOLDS[:, fold - 1]
  np.testing.assert_array_equal(dataset.train[..., 0], IMAGES[member <= 1])
  np.testing.assert_array_equal(dataset.validation[..., 0], IMAGES[member == 2])
  np.testing.assert_array_equal(dataset.test[..., 0], IMAGES[member == 3])
  assert dataset.levels == 256


def test_the_fold_is_a_config_value(tmp_path):
  path = save(tmp_path / "tfd.mat", images=IMAGES, folds=FOLDS)
  data = DataConfig(name="tfd", source="mat", path=str(path), fold=3)
  np.testing.assert_array_equal(
    datasets.from_config(data).train, load(path, fold=3).train
  )


def test_without_folds(tmp_path):
  dataset = load(save(tmp_path / "tfd.mat", images=IMAGES.astype(float).astype(int)))
  parts = [dataset.train, dataset.validation, dataset.test]
  assert [len(part) for part in parts] == [14, 2, 4]
  found = np.concatenate(parts)[..., 0]
  np.testing.assert_array_equal(found[np.argsort(found[:, 0, 0])], IMAGES)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"faces": IMAGES}, "has no array named images"),
    ({"images": IMAGES / 255}, "images are float64; allowed are integers"),
    ({"images": IMAGES[0]}, r"images have shape \(3, 2\)"),
    ({"images": IMAGES.astype(int) - 1}, "values from -1 to 118"),
    ({"images": IMAGES.astype(int) + 200}, "values from 200 to 319"),
    ({"images": IMAGES, "folds": FOLDS[:9]}, r"20 images need \[20, 5\]"),
    ({"images": IMAGES, "folds": 0 * FOLDS}, "split 'validation' has shape"),
    ({"images": {"a": 1}}, "allowed are integers"),
  ],
)
def test_unsound_arrays(tmp_path, arrays, message):
  with pytest.raises(UserError, match=message):
    load(save(tmp_path / "tfd.mat", **arrays))


def test_unsound_fold(tmp_path):
  path = save(tmp_path / "tfd.mat", images=IMAGES, folds=FOLDS)
  with pytest.raises(UserError, match=r"data.fold is 6; allowed are 1 to 5"):
    load(path, fold=6)


def test_version_7_3_is_named(tmp_path):
  path = tmp_path / "new.mat"
  head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
  path.write_bytes(head + bytes(512))
  with pytest.raises(UserError, match=r"version 7.3; save it with -v7"):
    load(path)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path_factory, content: bytes):
  path = tmp_path_factory.mktemp("mat") / "a.mat"
  path.write_bytes(content)
  with pytest.raises(UserError, match="mat file"):
    load(path)
