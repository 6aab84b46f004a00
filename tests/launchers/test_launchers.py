"""The commands as a user runs them: results, and mistakes in one sentence."""

import json
import os
import pathlib
import subprocess
import sys

import launching
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  "--config=configs/digits.py",
  "--config.model.hidden_sizes=(16,)",
  "--config.chain.num_steps=3",
  "--config.train.num_epochs=2",
  "--config.train.preview_every=0",
)


def launch(module: str, *arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-m", module, *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("launched") / "run"
  result = launch("experiments.train", *SMALL, f"--workdir={folder}", "--noprogress")
  assert result.returncode == 0, result.stderr
  assert "best validation bound" in result.stdout
  return folder


def test_train_leaves_what_others_rely_on(workdir):
  config = json.loads((workdir / "config.json").read_text())
  assert config["chain"]["num_steps"] == 3
  assert config["model"]["hidden_sizes"] == [16]
  rows = [json.loads(r) for r in (workdir / "metrics.jsonl").read_text().splitlines()]
  assert {row["split"] for row in rows} == {"train", "validation"}
  assert len(list((workdir / "samples").glob("*.png"))) == 2
  assert (workdir / "checkpoints").is_dir()
  launched = json.loads((workdir / "launches.jsonl").read_text().splitlines()[0])
  assert launched["command"].startswith("python -m experiments.train --config")
  assert {"commit", "versions", "device"} <= set(launched)


def test_the_same_command_again_has_nothing_to_do(workdir):
  before = (workdir / "metrics.jsonl").read_bytes()
  command = (*SMALL, f"--workdir={workdir}", "--noprogress")
  result = launching.launch("train", *command)
  assert result.returncode == 0, result.stderr
  assert (workdir / "metrics.jsonl").read_bytes() == before


def test_evaluate_prints_and_keeps_its_numbers(workdir):
  command = (
    f"--workdir={workdir}",
    "--num_images=20",
    "--num_chains=5",
    "--repetitions=2",
    "--noprogress",
  )
  result = launch("experiments.evaluate", *command)
  assert result.returncode == 0, result.stderr
  first = json.loads((workdir / "evaluation.json").read_text())["metrics"]
  assert set(first) == {"bound", "importance", "histogram", "gaussian"}
  for name in ("bound", "importance"):
    assert first[name]["standard_error"] > 0
    assert first[name]["deviation"] > 0
    assert first[name]["protocol"]["num_chains"] == 5
    assert f"{first[name]['value']:.2f}" in result.stdout
  assert first["bound"]["value"] < first["importance"]["value"]
  bits = first["histogram"]["details"]["bits_per_dimension"]
  (line,) = (row for row in result.stdout.splitlines() if "histogram" in row)
  assert f"{first['histogram']['value']:.2f}" in line and f"{bits:.3f}" in line
  # The same again finds them; nothing is measured or written anew.
  assert launching.launch("evaluate", *command).stdout == result.stdout
  again = json.loads((workdir / "evaluation.json").read_text())["metrics"]
  assert again == first
  # Another split stands beside them.
  other = ("--split=train", "--noreferences")
  assert launching.launch("evaluate", *command, *other).returncode == 0
  both = json.loads((workdir / "evaluation.json").read_text())["metrics"]
  assert set(both) == {*first, "train/bound", "train/importance"}


def test_no_tensorflow_is_imported_while_training(tmp_path):
  script = (
    "import sys\n"
    "from experiments import common, train\n"
    "sys.argv = ['train', *{arguments!r}]\n"
    "try:\n"
    "  common.run(train.main)\n"
    "except SystemExit as exit:\n"
    "  assert not exit.code, exit.code\n"
    "names = {{module.split('.')[0] for module in sys.modules}}\n"
    "names = {{name for name in names if name.startswith('tensorflow')}}\n"
    "print('imported:', sorted(names - {{'tensorflow_datasets'}}))\n"
  ).format(arguments=[*SMALL, f"--workdir={tmp_path / 'run'}", "--noprogress"])
  result = subprocess.run(
    [sys.executable, "-c", script],
    cwd=ROOT,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )
  assert "imported: []" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize(
  ("module", "argument", "told"),
  [
    ("train", "--config=configs/none.py", "configs/none.py"),
    ("evaluate", "--num_images=20", "does not exist"),
    ("sample", "--wrong=1", "wrong"),
  ],
)
def test_a_mistake_ends_with_one_sentence(module, argument, told, tmp_path):
  """In a process of its own; `reliability.bad_inputs` has hundreds, in this one."""
  workdir = tmp_path / "none"
  result = launch(f"experiments.{module}", f"--workdir={workdir}", argument)
  assert result.returncode == 2
  assert told in result.stderr
  assert "Traceback" not in result.stderr
  assert not workdir.exists()
