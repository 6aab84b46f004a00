"""No mistake costs a traceback or a byte: every command of `bad_inputs`."""

import hashlib
import pathlib
import re
import shlex

import pytest
from launching import launch
from reliability import bad_inputs


def snapshot(folder: pathlib.Path) -> dict[str, str]:
  """Every file and folder, and a digest of what is in it."""
  return {
    str(path.relative_to(folder)): (
      hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    )
    for path in sorted(folder.rglob("*"))
  }


@pytest.fixture(scope="module")
def before(place):
  return snapshot(place)


def test_the_table_is_long_enough():
  assert len(bad_inputs.ALL) >= 150
  assert len(set(bad_inputs.ALL)) == len(bad_inputs.ALL)


@pytest.mark.parametrize("mistake", bad_inputs.ALL, ids=str)
def test_a_mistake_ends_with_one_sentence(mistake, place, before, as_trained):
  paths = {"run": place / "run", "files": place / "files", "out": place / "out"}
  flags = mistake.flags.format(**paths, as_trained=as_trained)
  result = launch(mistake.launcher, *shlex.split(flags))
  lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
  assert result.returncode == 2, result
  assert len(lines) == 1, result.stderr
  assert result.stderr.rstrip().endswith(lines[0]), result.stderr
  assert "Traceback" not in result.stdout + result.stderr
  for told in mistake.told:
    assert re.search(told, lines[0]), lines[0]
  assert snapshot(place) == before
