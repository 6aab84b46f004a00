"""Two processes train together on this machine: killed, stopped, resumed by one."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
import runs
from launching import launch, start

from infusion_jax.errors import UserError
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.training import hosts, metrics_log

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  "--config=configs/digits.py",
  "--config.model.hidden_sizes=(16,)",
  "--config.chain.num_steps=3",
  "--config.data.max_images=300",
  "--config.train.batch_size=60",
  "--config.train.monitor_images=100",
  "--config.train.preview_every=0",
  "--noprogress",
)
# Processes of a busy machine may stand still for minutes.
PATIENCE = 900


@contextlib.contextmanager
def two_processes(folder, *flags):
  """A training by two processes, each with one device, which are killed at the end."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  with contextlib.ExitStack() as stack:
    yield [
      stack.enter_context(_process(folder, address, index, flags)) for index in (0, 1)
    ]


@contextlib.contextmanager
def _process(folder, address, index, flags):
  process = start(
    "train",
    *SMALL,
    f"--workdir={folder}",
    f"--coordinator_address={address}",
    "--num_processes=2",
    f"--process_id={index}",
    *flags,
    JAX_PLATFORMS="cpu",
    JAX_NUM_CPU_DEVICES="1",
  )
  try:
    yield process
  finally:
    process.kill()
    process.communicate()


def saved_steps(folder):
  return sorted(
    int(entry.name)
    for entry in (folder / "checkpoints").glob("*")
    if entry.name.isdigit()
  )


def wait_for_checkpoint(folder, processes):
  """Returns once something is saved; fails if a process ends before."""
  end = time.monotonic() + PATIENCE
  while not saved_steps(folder):
    ended = [process.poll() for process in processes]
    if time.monotonic() > end or any(code is not None for code in ended):
      for process in processes:
        process.kill()
      told = "\n".join(process.communicate()[1] for process in processes)
      raise AssertionError(f"exit codes {ended} before anything was saved:\n{told}")
    time.sleep(0.05)


def train_alone(folder, num_epochs):
  done = launch(
    "train",
    *SMALL,
    f"--workdir={folder}",
    f"--config.train.num_epochs={num_epochs}",
    "--config.train.checkpoint_every=1000",
  )
  assert done.returncode == 0, done.stderr


def assert_same_numbers(folder, reference):
  """To 1e-5: the processes add in another order, and Adam enlarges that."""
  runs.assert_same_rows(
    *(metrics_log.read(run / metrics_log.FILE) for run in (folder, reference))
  )


def finished_by_one(folder, tmp_path):
  """Goes on with one process, and compares with a run that never had another."""
  epochs = saved_steps(folder)[-1] // 5 + 2
  before = metrics_log.read(folder / metrics_log.FILE)
  train_alone(folder, epochs)
  train_alone(tmp_path / "alone", epochs)
  assert_same_numbers(folder, tmp_path / "alone")
  # What the two had measured was kept.
  assert metrics_log.read(folder / metrics_log.FILE)[0] == before[0]


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_are_killed_and_one_goes_on(tmp_path):
  """As the signal below, by a kill."""
  folder = tmp_path / "run"
  forever = "--config.train.num_epochs=100000"
  with two_processes(folder, forever) as processes:
    wait_for_checkpoint(folder, processes)
    for process in processes:
      process.send_signal(signal.SIGKILL)
    assert [process.wait(60) for process in processes] == [-signal.SIGKILL] * 2
  launches = (folder / "launches.jsonl").read_text().splitlines()
  assert len(launches) == 1 and json.loads(launches[0])["num_devices"] == 2
  finished_by_one(folder, tmp_path)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_with_everything_saved(tmp_path):
  folder = tmp_path / "run"
  # An epoch that is not saved at its end: only the signal saves.
  often = ("--config.train.num_epochs=100000", "--config.train.checkpoint_every=3")
  with two_processes(folder, *often) as processes:
    wait_for_checkpoint(folder, processes)
    processes[1].send_signal(signal.SIGTERM)
    told = [process.communicate(timeout=PATIENCE) for process in processes]
  assert [process.returncode for process in processes] == [75, 75], told
  step = saved_steps(folder)[-1]
  assert f"stopped at step {step}, which is saved; the same command" in told[0][1]
  assert "stopped" not in told[1][1]
  checkpoints = Checkpoints(folder)
  assert checkpoints.about(step)["epoch"] == step // 5
  checkpoints.close()
  finished_by_one(folder, tmp_path)


@pytest.mark.slow
def test_a_mistake_found_by_the_first_process_ends_both(tmp_path):
  folder = tmp_path / "run"
  folder.mkdir()
  (folder / "letter.txt").write_text("dear")
  with two_processes(folder) as processes:
    told = [process.communicate(timeout=PATIENCE)[1] for process in processes]
  assert [process.returncode for process in processes] == [2, 2], told
  assert "is not empty" in told[0]
  assert "the first process could not go on" in told[1]
  assert [entry.name for entry in folder.iterdir()] == ["letter.txt"]


def test_nothing_to_detect_is_told_in_one_sentence(tmp_path):
  command = [sys.executable, "-m", "experiments.train", *SMALL]
  done = subprocess.run(
    [*command, "--distributed", f"--workdir={tmp_path / 'run'}"],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=PATIENCE,
    check=False,
  )
  assert done.returncode == 2
  assert done.stderr.startswith("error: distributed is set, but JAX cannot tell")
  assert not (tmp_path / "run").exists()


def test_a_single_process_agrees_with_itself():
  assert hosts.is_first()
  assert hosts.any_of(True) is True and hosts.any_of(False) is False
  assert hosts.of_first(0.1) == 0.1 and hosts.of_first(2**40) == 2**40
  assert hosts.on_first(lambda: "done") == "done"
  with pytest.raises(UserError, match="full"):
    hosts.on_first(lambda: (_ for _ in ()).throw(UserError("the disk is full")))
