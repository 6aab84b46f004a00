import json
import logging
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from infusion_jax import datasets
from infusion_jax.datasets import tfds
from infusion_jax.errors import UserError

REPOSITORY = pathlib.Path(__file__).parents[2]
LOAD = """
import json, sys
from infusion_jax import datasets
mnist = datasets.load("mnist", "tfds", sys.argv[1], cache_dir=sys.argv[2])
names = {module.split(".")[0] for module in sys.modules}
print(json.dumps(sorted(name for name in names if name.startswith("tensorflow"))))
"""


@pytest.fixture(scope="session")
def prepared(real_data: pathlib.Path) -> pathlib.Path:
  pytest.importorskip("tensorflow_datasets")
  folder = real_data / "tensorflow_datasets"
  if not (folder / "mnist" / "3.0.1").is_dir():
    pytest.skip(f"{folder} holds no prepared MNIST")
  return folder


@pytest.fixture
def copied(prepared: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
  """A data folder with a copy of MNIST that may be damaged."""
  folder = tmp_path / "mnist" / "3.0.1"
  folder.mkdir(parents=True)
  for file in (prepared / "mnist" / "3.0.1").iterdir():
    # Contents only: the originals may be write-protected.
    shutil.copyfile(file, folder / file.name)
  return tmp_path


def edit_info(data_dir: pathlib.Path, **changes) -> None:
  info = data_dir / "mnist" / "3.0.1" / "dataset_info.json"
  info.write_text(json.dumps(json.loads(info.read_text()) | changes))


def load(data_dir: pathlib.Path, name: str = "mnist") -> datasets.Dataset:
  return datasets.load(name, "tfds", str(data_dir), cache_dir=str(data_dir / "cache"))


@pytest.mark.slow
def test_mnist(prepared: pathlib.Path, real_data: pathlib.Path, tmp_path: pathlib.Path):
  """Decoded in a process of its own, cached, and equal to the official files."""
  loaded = subprocess.run(
    [sys.executable, "-c", LOAD, prepared, tmp_path],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    check=True,
  )
  modules = json.loads(loaded.stdout)
  assert "tensorflow_datasets" in modules
  assert set(modules) <= {"tensorflow_datasets", "tensorflow_metadata"}
  [entry] = tmp_path.glob("mnist-*.npz")
  written = entry.stat().st_mtime_ns
  found = datasets.load("mnist", "tfds", str(prepared), cache_dir=str(tmp_path))
  assert entry.stat().st_mtime_ns == written
  expected = datasets.load("mnist", "idx", str(real_data / "mnist"))
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(found.split(split), expected.split(split))


def test_missing_data_name_the_command(tmp_path: pathlib.Path):
  command = f"experiments.prepare_data --dataset=mnist --data_dir={tmp_path}"
  with pytest.raises(UserError, match=command):
    load(tmp_path)


@pytest.mark.parametrize("name", ["", "../mnist", "mnist/", "a b", "mnist:latest", "/"])
def test_impossible_names(tmp_path: pathlib.Path, name: str):
  with pytest.raises(UserError, match=r"names look like"):
    load(tmp_path, name)


def make_info(folder: pathlib.Path) -> pathlib.Path:
  folder.mkdir(parents=True)
  (folder / "dataset_info.json").write_text("{}")
  return folder


def test_newest_complete_version_is_found(tmp_path: pathlib.Path):
  old = make_info(tmp_path / "mnist" / "3.0.1")
  new = make_info(tmp_path / "mnist" / "10.0.0")
  make_info(tmp_path / "mnist" / "incomplete.ABC_11.0.0")
  assert tfds.find_prepared("mnist", tmp_path) == new
  assert tfds.find_prepared("mnist:3.0.1", tmp_path) == old
  assert tfds.find_prepared("mnist", old) == old
  with pytest.raises(UserError, match=r"there are no prepared data"):
    tfds.find_prepared("mnist:4.0.0", tmp_path)


def test_configurations_must_be_named(tmp_path: pathlib.Path):
  letters = make_info(tmp_path / "emnist" / "letters" / "3.1.0")
  assert tfds.find_prepared("emnist/letters", tmp_path) == letters
  with pytest.raises(UserError, match=r"holds emnist/letters"):
    tfds.find_prepared("emnist", tmp_path)


def test_unreadable_description(tmp_path: pathlib.Path):
  pytest.importorskip("tensorflow_datasets")
  make_info(tmp_path / "mnist" / "3.0.1")
  with pytest.raises(UserError, match=r"tfds folder .*mnist/3.0.1"):
    load(tmp_path)


def test_other_file_format(copied: pathlib.Path):
  edit_info(copied, fileFormat="tfrecord")
  with pytest.raises(UserError, match=r"array_record"):
    load(copied)


def test_folder_of_another_dataset(copied: pathlib.Path):
  folder = copied / "mnist" / "3.0.1"
  with pytest.raises(UserError, match=r"'cifar10'; the folder .* holds mnist:3\.0\.1"):
    load(folder, "cifar10")


def test_missing_split(copied: pathlib.Path):
  info = copied / "mnist" / "3.0.1" / "dataset_info.json"
  edit_info(copied, splits=json.loads(info.read_text())["splits"][:1])
  with pytest.raises(UserError, match=r"splits are train; train and test are needed"):
    load(copied)


def test_missing_file(copied: pathlib.Path):
  [file] = (copied / "mnist" / "3.0.1").glob("mnist-test*")
  file.unlink()
  with pytest.raises(UserError, match=r"the file mnist-test.* is missing"):
    load(copied)


def test_truncated_file(copied: pathlib.Path):
  [file] = (copied / "mnist" / "3.0.1").glob("mnist-train*")
  file.write_bytes(file.read_bytes()[:1_000_000])
  with pytest.raises(UserError, match=r"tfds folder .* cannot be read"):
    load(copied)
  assert not (copied / "cache").exists()


def test_pillow_in_place_of_opencv_is_no_news(caplog):
  pytest.importorskip("tensorflow_datasets")
  tfds.import_tfds()
  for text in ("OpenCV is not installed. We recommend it.", "OpenCV failed."):
    logging.getLogger("absl").warning(text)
  assert caplog.messages == ["OpenCV failed."]
