import importlib.util
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from infusion_jax import datasets
from infusion_jax.datasets import prepare
from infusion_jax.errors import UserError

pytest.importorskip("tensorflow_datasets")
REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture
def no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name: None if name == "tensorflow" else find(name),
  )


def run(*flags: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", "experiments.prepare_data", *flags],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_missing_archives_are_listed_at_once(tmp_path: pathlib.Path):
  (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"")
  with pytest.raises(UserError, match=r"lacks t10k-images.*, train-labels.* of the"):
    prepare.prepare("mnist", str(tmp_path / "data"), str(tmp_path))
  with pytest.raises(UserError, match="there is no such folder"):
    prepare.prepare("mnist", str(tmp_path / "data"), str(tmp_path / "nowhere"))
  assert not (tmp_path / "data").exists()


def test_wrong_archives_are_refused(real_data: pathlib.Path, tmp_path: pathlib.Path):
  for file in (real_data / "mnist").glob("*.gz"):
    shutil.copyfile(file, tmp_path / file.name)
  labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
  content = labels.read_bytes()
  labels.write_bytes(content[:-1])
  with pytest.raises(UserError, match="has 4541 bytes, tfds expects 4542 bytes"):
    prepare.prepare("mnist", str(tmp_path / "data"), str(tmp_path))
  labels.write_bytes(content[:-1] + b"?")
  with pytest.raises(UserError, match="its sha256 is"):
    prepare.prepare("mnist", str(tmp_path / "data"), str(tmp_path))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("mnits", "tfds .* has no data set of this name"),
    ("emnist/runes", "configurations of emnist are .*letters"),
    ("mnist/letters", "configurations of mnist are none"),
    ("mnist:99.0.0", "99.0.0"),
    ("not a name", "names look like"),
  ],
)
def test_unknown_names(tmp_path: pathlib.Path, name: str, message: str):
  with pytest.raises(UserError, match=message) as caught:
    prepare.prepare(name, str(tmp_path))
  assert "\n" not in str(caught.value)


def test_tensorflow_is_asked_for(tmp_path: pathlib.Path, no_tensorflow: None):
  with pytest.raises(UserError, match=r"pip install -e '\.\[prepare\]'"):
    prepare.prepare("mnist", str(tmp_path))
  assert list(tmp_path.iterdir()) == []


def test_prepared_data_are_left_alone(real_data: pathlib.Path, no_tensorflow: None):
  data_dir = real_data / "tensorflow_datasets"
  if not data_dir.is_dir():
    pytest.skip(f"{data_dir} does not exist")
  folder, counts = prepare.prepare("mnist", str(data_dir))
  assert folder == data_dir / "mnist" / "3.0.1"
  assert counts == {"train": 60_000, "test": 10_000}


@pytest.mark.parametrize(
  "flags", [(), ("--dataset=mnist",), ("--dataset=mnits", "--data_dir={tmp}")]
)
def test_mistakes_end_without_a_traceback(tmp_path: pathlib.Path, flags):
  ended = run(*(flag.format(tmp=tmp_path) for flag in flags))
  assert ended.returncode != 0
  assert ended.stderr.strip()
  assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_mnist_from_archives(real_data: pathlib.Path, tmp_path: pathlib.Path):
  if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed")
  archives = real_data / "mnist"
  ended = run("--dataset=mnist", f"--data_dir={tmp_path}", f"--manual_dir={archives}")
  assert ended.returncode == 0, ended.stderr
  # Nothing unpacked is left behind.
  assert [path.name for path in tmp_path.iterdir()] == ["mnist"]
  found = datasets.load("mnist", "tfds", str(tmp_path), cache_dir=str(tmp_path / "c"))
  expected = datasets.load("mnist", "idx", str(archives))
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(found.split(split), expected.split(split))
