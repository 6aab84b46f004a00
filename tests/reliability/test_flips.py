"""One bit of one file of a finished run is another: told, or without consequence."""

import collections
import logging
import os
import pathlib
import shlex
import shutil

import memory_maps
import numpy as np
import pytest
from launching import launch

from infusion_jax.storage import files

#: A minute and a half; 500 at full length.
COUNT = 500 if os.environ.get("INFUSION_JAX_SOAK") else 10

EVALUATE = ("evaluate", "--metrics=bound,importance", "--num_images=10", "--noprogress")
PROTOCOL = ("--num_chains=2", "--repetitions=1", "--search_images=4")


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
  """A run that has been evaluated."""
  folder = tmp_path_factory.mktemp("finished") / "run"
  shutil.copytree(place / "run", folder)
  result = launch(*EVALUATE, *PROTOCOL, f"--workdir={folder}")
  assert result.returncode == 0, result.stderr
  return folder


def outcomes(folder: pathlib.Path, as_trained: str, caplog) -> dict[str, tuple]:
  """What each command returns, what it makes of the run, and what it tells."""
  out = folder.parent / "out"
  shutil.rmtree(out, ignore_errors=True)
  out.mkdir()
  train = ("train", "--config=configs/digits.py", "--noprogress")
  commands = {
    "sample": ("sample", "--seeds=0-3", f"--out={out}/images.npz"),
    "curves": ("curves", f"--out={out}/curves.png"),
    "evaluate": (*EVALUATE, *PROTOCOL),
    "report": ("report", f"--out={out}/report.html"),
    "train": (*train, *shlex.split(as_trained)),
  }
  launched, cautions = {}, {}
  for name, command in commands.items():
    caplog.clear()
    launched[name] = launch(*command, f"--workdir={folder}")
    cautions[name] = launched[name].stderr + caplog.text
  made = {
    "sample": _arrays(out / "images.npz"),
    "curves": _bytes(out / "curves.png"),
    "evaluate": launched["evaluate"].stdout.replace(str(folder), ""),
    "report": None,
    "train": _bytes(folder / "metrics.jsonl"),
  }
  return {name: (launched[name], made[name], cautions[name]) for name in commands}


def _arrays(path: pathlib.Path) -> bytes | None:
  if not path.exists():
    return None
  with np.load(path) as found:
    return found["images"].tobytes()


def _bytes(path: pathlib.Path) -> bytes | None:
  return path.read_bytes() if path.exists() else None


def test_no_flipped_bit_changes_a_result_in_silence(
  finished, as_trained, tmp_path, caplog
):
  whole = tmp_path / "whole" / "run"
  shutil.copytree(finished, whole)
  expected = outcomes(whole, as_trained, caplog)
  assert all(told.returncode == 0 for told, _, _ in expected.values())
  random, counts = np.random.default_rng(0), collections.Counter()
  paths = [path for path in sorted(finished.rglob("*")) if path.stat().st_size]
  paths = [path.relative_to(finished) for path in paths if path.is_file()]
  folder = tmp_path / "flipped" / "run"
  for number in range(COUNT):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(finished, folder)
    memory_maps.keep_few()
    # Texts are few bytes of a run, and people read them: each file gets its turn.
    path = folder / paths[number % len(paths)]
    place = _flip(path, random)
    for name, (told, made, caution) in outcomes(folder, as_trained, caplog).items():
      where = f"{name} after a flip in byte {place} of {path.name}: {told}"
      assert told.returncode in (0, 2), where
      assert "Traceback" not in told.stderr, where
      if told.returncode == 2:
        assert told.stderr.startswith("error: "), where
        counts["refused"] += 1
      elif made == expected[name][1]:
        counts["same"] += 1
      else:
        assert caution, where
        counts["told"] += 1
  print(COUNT, "flips:", dict(counts))


def _flip(path: pathlib.Path, random: np.random.Generator) -> int:
  data = bytearray(path.read_bytes())
  place = int(random.integers(len(data)))
  data[place] ^= 1 << int(random.integers(8))
  path.write_bytes(bytes(data))
  return place


def test_a_flip_in_a_text_names_file_and_line(finished, tmp_path, caplog):
  """Of a file of lines, the others are kept."""
  folder = tmp_path / "run"
  shutil.copytree(finished, folder)
  path = folder / "metrics.jsonl"
  lines = path.read_bytes().splitlines(keepends=True)
  lines[1] = lines[1].replace(b'"epoch"', b'"epocH"', 1)
  path.write_bytes(b"".join(lines))
  with caplog.at_level(logging.WARNING):
    found = files.read_json_lines(path)
  assert len(found) == len(lines) - 1
  assert f"{path}: line 2 is damaged" in caplog.text
