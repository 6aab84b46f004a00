"""One workdir, one process that trains in it."""

import signal

import launching
import pytest
import runs
from launching import launch, tree
from reliability import processes

from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.training import loop, workdir


def fit(folder, **train):
  return loop.fit(runs.config(**train), runs.dataset(), folder, progress=False)


def test_a_second_process_is_refused_while_the_first_lives(tmp_path):
  folder = tmp_path / "run"
  first = processes.start(folder, "--config.train.num_epochs=100000")
  try:
    launching.wait_for(lambda: processes.epochs(folder) >= 1, first)
    first.send_signal(signal.SIGSTOP)
    before = tree(folder)
    flags = [*processes.FLAGS, "--config.train.num_epochs=100000"]
    result = launch("train", f"--workdir={folder}", *flags)
    assert result.returncode == 2
    assert f"is in use by process {first.pid} on " in result.stderr
    assert tree(folder) == before
  finally:
    first.send_signal(signal.SIGCONT)
    first.kill()
    first.communicate()
  # A dead process is in nobody's way.
  flags = [*processes.FLAGS, "--config.train.num_epochs=1"]
  result = launch("train", f"--workdir={folder}", *flags)
  assert result.returncode == 0, result.stderr


def test_a_lock_is_held_no_longer_than_training(tmp_path):
  fit(tmp_path / "run", num_epochs=1)
  with (
    workdir.claimed(tmp_path / "run", runs.config(num_epochs=1)),
    pytest.raises(UserError, match="is in use by process"),
  ):
    fit(tmp_path / "run", num_epochs=1)
  fit(tmp_path / "run", num_epochs=1)


def test_a_stale_lock_file_is_no_lock(tmp_path):
  (tmp_path / "lock").write_text("process 1 on another machine\n")
  with files.locked(tmp_path / "lock", "it"):
    assert "another machine" not in (tmp_path / "lock").read_text()


def test_a_run_killed_before_it_had_a_configuration_can_start(tmp_path):
  folder = tmp_path / "run"
  folder.mkdir()
  (folder / workdir.LOCK_FILE).write_text("process 1 on another machine\n")
  (folder / ".config.json-x1y2.tmp").write_text('{"data"')
  fit(folder, num_epochs=1)
  assert not list(folder.glob(".*"))
