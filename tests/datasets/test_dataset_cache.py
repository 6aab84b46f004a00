import logging
import os
import pathlib

import numpy as np
import pytest

from infusion_jax.datasets import Dataset, cache
from infusion_jax.errors import UserError


class Builder:
  """Counts how often the data set is built."""

  def __init__(self):
    self.calls = 0

  def __call__(self) -> Dataset:
    self.calls += 1
    images = np.full((3, 2, 2, 1), self.calls, np.uint8)
    return Dataset("toy", images, images, images, 17)


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
  path = tmp_path / "source.bin"
  path.write_bytes(b"content")
  return path


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
  return tmp_path / "cache"


def load(source: pathlib.Path, build: Builder, folder: pathlib.Path) -> Dataset:
  return cache.load_or_build("toy/letters:1", [source], build, str(folder))


def test_second_time_is_read(source: pathlib.Path, folder: pathlib.Path):
  build = Builder()
  first, second = load(source, build, folder), load(source, build, folder)
  assert build.calls == 1
  np.testing.assert_array_equal(first.train, second.train)
  assert second.levels == 17
  [entry] = folder.iterdir()
  assert entry.name.startswith("toy_letters_1-")
  assert entry.suffix == ".npz"


def test_changed_source_is_rebuilt(source: pathlib.Path, folder: pathlib.Path):
  build = Builder()
  load(source, build, folder)
  source.write_bytes(b"other content")
  load(source, build, folder)
  os.utime(source, (1, 1))
  load(source, build, folder)
  assert build.calls == 3


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_damaged_entry_is_rebuilt(
  source: pathlib.Path, folder: pathlib.Path, keep: int, caplog
):
  build = Builder()
  load(source, build, folder)
  [entry] = folder.iterdir()
  entry.write_bytes(entry.read_bytes()[:keep])
  assert load(source, build, folder).train.max() == 2
  assert "damaged" in caplog.text
  load(source, build, folder)
  assert build.calls == 2


def test_unwritable_cache_is_a_warning(
  source: pathlib.Path, tmp_path: pathlib.Path, caplog
):
  (tmp_path / "file").write_text("not a folder")
  with caplog.at_level(logging.WARNING):
    dataset = load(source, Builder(), tmp_path / "file" / "cache")
  assert dataset.train.max() == 1
  assert "cannot cache" in caplog.text


def test_failed_write_leaves_nothing(
  source: pathlib.Path, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog
):
  def full_disk(stream, dataset):
    stream.write(b"some bytes")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(cache.npz, "save", full_disk)
  load(source, Builder(), folder)
  assert list(folder.iterdir()) == []
  assert "No space left on device" in caplog.text


def test_user_errors_pass(source: pathlib.Path, folder: pathlib.Path):
  def build():
    raise UserError("no images")

  with pytest.raises(UserError, match="no images"):
    load(source, build, folder)


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
  monkeypatch.setenv("INFUSION_JAX_CACHE", str(tmp_path))
  assert cache.default_dir() == tmp_path
  monkeypatch.delenv("INFUSION_JAX_CACHE")
  monkeypatch.setenv("HOME", str(tmp_path))
  assert cache.default_dir() == tmp_path / ".cache" / "infusion_jax"
