"""What a command does with streams that nobody reads, and with Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import launching
import pytest
from reliability import processes

COMMAND = [sys.executable, "-m", "experiments.train", *processes.FLAGS]


def shell(command: str, **options) -> subprocess.CompletedProcess:
  return subprocess.run(
    ["bash", "-c", command],
    cwd=launching.ROOT,
    env={**os.environ, "PYTHONPATH": str(launching.ROOT)},
    capture_output=True,
    text=True,
    timeout=300,
    **options,
  )


@pytest.mark.parametrize(
  "streams", ["2>&-", pytest.param(">&-", marks=pytest.mark.long), "<&- >&- 2>&-"]
)
def test_training_with_closed_streams_ends_well(streams, tmp_path):
  """With a progress bar, which writes to the closed stream."""
  flags = " ".join(map(repr, COMMAND)).replace("--noprogress", "--progress")
  result = shell(
    f"{flags} --workdir={tmp_path}/run --config.train.num_epochs=1 {streams}"
  )
  assert result.returncode == 0, result.stderr
  assert "Traceback" not in result.stderr
  named = {path.name for path in (tmp_path / "run").iterdir()}
  assert {"config.json", "metrics.jsonl", "checkpoints"} <= named
  # What is printed went to nobody, and not into a file that was opened instead.
  for path in (tmp_path / "run").glob("*.json*"):
    assert path.read_text().startswith("{")


def test_a_reader_that_leaves_does_not_end_training(tmp_path):
  """The pipe is closed before the first character."""
  flags = " ".join(map(repr, COMMAND)).replace("--noprogress", "--progress")
  result = shell(
    f"set -o pipefail; {flags} --workdir={tmp_path}/run --config.train.num_epochs=1"
    " 2>&1 | true"
  )
  assert result.returncode == 0
  assert result.stderr == ""
  assert (tmp_path / "run" / "samples").is_dir()


def test_a_full_disk_behind_the_output_is_told():
  result = shell(f"{sys.executable} -m experiments.train --help > /dev/full")
  assert result.returncode == 0
  assert "output cannot be written (No space left on device)" in result.stderr


@pytest.mark.parametrize(
  ("name", "flag"),
  [("train", "--help"), ("evaluate", "-h"), ("sweep", "-h"), ("reproduce", "--help")],
)
def test_help_names_flags_and_keys(name, flag):
  result = shell(f"{sys.executable} -m experiments.{name} {flag}")
  assert result.returncode == 0
  assert "--workdir" in result.stdout and result.stderr == ""
  if name in ("train", "sweep"):
    prefix = "config.base" if name == "sweep" else "config"
    assert f"--{prefix}.train.num_epochs=10" in result.stdout
    assert "train.ema_decay: decay of the averaged weights" in result.stdout
  # Flags that other modules define for the command.
  shared = {"train": "distributed", "evaluate": "num_chains", "sweep": "num_images"}
  assert f"{shared.get(name, 'scale')}: " in result.stdout


def test_a_reader_of_help_who_leaves_hears_no_error():
  result = shell(f"{sys.executable} -m experiments.train --help | head -2")
  assert result.stdout.startswith("Trains a model")
  assert result.stderr == ""


@pytest.mark.parametrize("wait", [0.15, 0.6])
def test_ctrl_c_while_python_imports_is_silent(wait, tmp_path):
  process = processes.start(tmp_path / "run")
  # From here on the launchers' package is imported: it loads this library first.
  launching.wait_for(lambda: _maps(process.pid, "_contextvars"), process)
  time.sleep(wait)
  assert not (tmp_path / "run").exists()
  process.send_signal(signal.SIGINT)
  out, err = process.communicate(timeout=60)
  assert (process.returncode, out, err) == (130, "", "")


def _maps(pid: int, library: str) -> bool:
  with open(f"/proc/{pid}/maps") as file:  # noqa: PTH123
    return library in file.read()


def test_configurations_go_by_their_name(tmp_path):
  small = [f"--config.{key}" for key in ("data.max_images=64", "train.num_epochs=1")]
  result = launching.launch(
    "train", "--config=digits", f"--workdir={tmp_path}/run", "--noprogress", *small
  )
  assert result.returncode == 0, result.stderr
  sweep = ("sweep", "--config=sweeps/digits", f"--workdir={tmp_path}/sweep")
  assert launching.launch(*sweep, "--dry_run").returncode == 0
  refused = launching.launch("train", "--config=digit", f"--workdir={tmp_path}/other")
  assert refused.returncode == 2
  assert "did you mean 'digits'?" in refused.stderr


@pytest.mark.parametrize(
  ("override", "meant"),
  [("train.lerning_rate=1", "train.learning_rate"), ("chian.omega=1", "chain")],
)
def test_a_misspelt_key_gets_a_suggestion(override, meant, tmp_path):
  flag = f"--config.{override}"
  result = launching.launch("train", "--config=digits", f"--workdir={tmp_path}/a", flag)
  assert result.returncode == 2
  key = override.partition("=")[0].split(".")[1 if "train" in override else 0]
  wanted = f"the key {key!r}, which the file does not have (did you mean {meant!r}?)"
  assert wanted in result.stderr


def test_a_users_own_log_level_is_kept():
  show = (
    "from experiments import process; import os; process.begin();"
    " print(os.environ['TPU_MIN_LOG_LEVEL'], os.environ['TPU_STDERR_LOG_LEVEL'])"
  )
  result = shell(f'TPU_MIN_LOG_LEVEL=0 {sys.executable} -c "{show}"')
  assert result.stdout == "0 2\n"
