"""Every block of README.md works as it is written.

Bash reads every bash block, quotes, comments and line ends included; the commands it
would start are functions that note the words they are given. What a word names
(FOLDER_WITH_THE_FOUR_FILES, PICTURES) then lies in the folder they run in, and every
`python -m experiments.NAME` runs in this process with exactly these words, followed by
those of `SMALL`, which make a training of hours one of seconds. `EXCEPTIONS` names what
cannot run here and why; of these commands the flags and keys are read. Python blocks
run after the bash blocks, with what these have made.
"""

import contextlib
import io
import pathlib
import re
import subprocess
import sys
from unittest import mock

import launching
import numpy as np
import pytest
from launching import ROOT
from PIL import Image

from experiments import common
from infusion_jax.drawing import plots

README = (ROOT / "README.md").read_text()

#: What is added to a command's own words; nothing else is changed.
SMALL = {
  "train": (
    "--config.data.max_images=40",
    "--config.train.batch_size=10",
    "--config.train.num_epochs=1",
    "--config.train.monitor_images=10",
    "--config.model.hidden_sizes=(8,)",
    "--config.model.channels=(4,4,4,4)",
    "--config.chain.num_steps=2",
    "--noprogress",
  ),
  "evaluate": ("--num_images=8", "--num_chains=2", "--noprogress"),
}

#: Words of commands whose flags are read, and that do not run, with the reason.
EXCEPTIONS = {
  "--config.data.source=tfds": "needs a prepared tfds data set",
  "--coordinator_address=HOST:PORT": "needs processes on several machines",
  "experiments.prepare_data": "needs a network and TensorFlow",
  "--config.data.path=DIR": "needs a prepared tfds data set",
  "--config.data.path=TFD_48x48.mat": "needs a file that is not public",
  "experiments.convert_inception": "needs weights of Inception-v3",
  "--inception=inception.npz": "needs weights of Inception-v3",
  "--classifier=classifier.npz": "needs a model of CIFAR-10",
}

#: Commands that are noted, not started; any other ends the block with an error.
_NOTED = ("git", "cd", "python3", "source", "pip", "make", "python", "sbatch")
_PRELUDE = "\n".join(
  f"{name}() {{ printf '%s\\x1f' {name} \"$@\"; printf '\\x1e'; }}" for name in _NOTED
)


def blocks(language: str) -> list[str]:
  return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def commands(block: str) -> list[list[str]]:
  """The commands of a bash block, as bash hands them over."""
  done = subprocess.run(
    ["bash", "-euc", f"{_PRELUDE}\n{block}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return [line.split("\x1f")[:-1] for line in done.stdout.split("\x1e")[:-1]]


ALL = [words for block in blocks("bash") for words in commands(block)]
INLINE = [
  words
  for line in re.findall(r"`(python -m experiments\.[a-z][^`]*)`", README)
  for words in commands(line)
]


def launched(words: list[str]) -> tuple[str, list[str]] | None:
  """The launcher and its flags, of a command that starts one."""
  if words[:2] != ["python", "-m"] or not words[2].startswith("experiments."):
    return None
  return words[2].partition(".")[2], words[3:]


def reason(words: list[str]) -> str | None:
  return next((EXCEPTIONS[word] for word in words if word in EXCEPTIONS), None)


def check_flags(name: str, arguments: list[str]) -> None:
  """Reads flags and keys of a configuration as the command does."""
  told = io.StringIO()
  line = [name, *arguments]
  with (
    launching.flags_of(f"experiments.{name}"),
    mock.patch.object(sys, "argv", line),
    contextlib.redirect_stderr(told),
  ):
    try:
      common.parse_flags(line)
    except SystemExit:
      pytest.fail(f"{name} {arguments}: {told.getvalue()}")


def test_every_exception_is_one_of_a_command():
  for word in EXCEPTIONS:
    assert any(word in words for words in ALL), word


@pytest.mark.parametrize("words", [*ALL, *INLINE], ids=" ".join)
def test_flags_and_keys_exist(words):
  found = launched(words)
  if found is None:
    assert words[0] in _NOTED
    return
  check_flags(*found)


def test_the_install_block_names_what_there_is():
  words = {line[0]: line[1:] for line in commands(blocks("bash")[0])}
  assert words["git"][0] == "clone" and words["git"][1].endswith(f"/{words['cd'][0]}")
  assert words["source"] == [f"{words['python3'][-1]}/bin/activate"]
  extras = re.findall(r"pip install -e '\.\[(\w+)\]'", README)
  setup = (ROOT / "setup.cfg").read_text()
  assert {"cuda", "tpu"} <= set(extras)
  assert all(re.search(rf"^{extra} =", setup, re.M) for extra in extras)


def test_targets_of_make_and_scripts_are_there():
  for name, *arguments in ALL:
    if name == "make":
      done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True)
      assert done.returncode == 0
    if name == "sbatch":
      subprocess.run(["bash", "-n", ROOT / arguments[0]], check=True)


def demo() -> list[list[str]]:
  """The commands of `make demo` after its environment."""
  done = subprocess.run(
    ["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
  )
  lines = re.findall(r"^\S+/bin/(python -m experiments.*)$", done.stdout, re.M)
  assert len(lines) == 3
  return [words for line in lines for words in commands(line)]


@pytest.fixture
def desk(tmp_path, monkeypatch):
  """A folder that has what the words of README.md name."""
  for name in ("configs", "results", "scripts", "examples"):
    if (ROOT / name).exists():
      (tmp_path / name).symlink_to(ROOT / name)
  idx_files(tmp_path / "FOLDER_WITH_THE_FOUR_FILES")
  generator = np.random.default_rng(0)
  for number in range(60):
    picture = generator.integers(0, 256, (70, 80, 3), dtype=np.uint8)
    plots.save(tmp_path / "PICTURES" / f"{number}.png", picture)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path


def idx_files(folder: pathlib.Path) -> None:
  """Four files of MNIST's names and form, with noise for digits."""
  folder.mkdir()
  for split, count in (("train", 60), ("t10k", 20)):
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for kind, array in (("images-idx3", images), ("labels-idx1", images[:, 0, 0] % 10)):
      sizes = np.array(array.shape, ">i4").tobytes()
      head = bytes([0, 0, 8, array.ndim]) + sizes
      (folder / f"{split}-{kind}-ubyte").write_bytes(head + array.tobytes())


@pytest.mark.slow
def test_blocks_run_as_written(desk):
  for words in ALL:
    for command in demo() if words == ["make", "demo"] else [words]:
      found = launched(command)
      if found is None or reason(command):
        continue
      name, arguments = found
      result = launching.launch(name, *arguments, *SMALL.get(name, ()))
      assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
  assert Image.open("samples.png").size > (500, 500)
  for block in blocks("python"):
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["images"].shape == (64, 8, 8, 1)
