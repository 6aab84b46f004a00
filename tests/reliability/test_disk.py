"""Disks that are full, read-only or gone: one sentence, and nothing is damaged."""

import errno
import os
import pathlib
import resource
import shutil
import subprocess

import pytest
import runs
from launching import launch
from reliability import processes

import infusion_jax
from infusion_jax.errors import UserError
from infusion_jax.storage import checkpoints
from infusion_jax.training import epochs, loop, metrics_log, workdir


def fit(folder, **train):
  return loop.fit(runs.config(**train), runs.dataset(), folder, progress=False)


def intact(folder: pathlib.Path) -> int:
  """The step of the last checkpoint, which can be loaded."""
  step = checkpoints.Checkpoints(folder).steps()[-1]
  assert infusion_jax.load(folder).step == step
  return step


@pytest.fixture
def small_disk(tmp_path):
  """A disk of 2 MB."""
  place = tmp_path / "disk"
  place.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
  if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip("this process may not mount a file system")
  yield place
  subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(small_disk):
  folder = small_disk / "run"
  fit(folder, num_epochs=2)
  free = shutil.disk_usage(small_disk).free
  (small_disk / "film").write_bytes(bytes(free - 20_000))
  before = intact(folder)
  told = r"cannot be written.*(No space|EXHAUSTED|ENOSPC)"
  with pytest.raises(UserError, match=told):
    fit(folder, num_epochs=200)
  assert intact(folder) >= before
  assert not list((folder / "checkpoints").glob("*tmp*"))
  # With room again, it goes on as if nothing had been.
  (small_disk / "film").unlink()
  fit(folder, num_epochs=4)
  fit(small_disk / "other", num_epochs=4)
  assert runs.rows(folder) == runs.rows(small_disk / "other")


def test_files_that_may_not_grow(tmp_path):
  folder = tmp_path / "run"
  flags = ["--config.train.num_epochs=2", "--config.train.preview_every=0"]
  process = processes.start(folder, *flags)
  resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3000, 3000))
  _, err = process.communicate(timeout=300)
  assert process.returncode == 2
  (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
  # What Orbax's threads print besides is beyond reach: no file may grow, unlike on
  # a full disk, which is noticed before they begin.
  assert "cannot be written" in line


@pytest.mark.parametrize("name", ["metrics", "timing", "launches", "config"])
def test_no_space_for_any_file(name, tmp_path, monkeypatch):
  folder = tmp_path / "run"
  fit(folder, num_epochs=2)
  before = intact(folder)
  rows = runs.rows(folder)

  def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  patched = {
    "metrics": (metrics_log.MetricsWriter, "write"),
    "timing": (epochs, "_note_time"),
    "launches": (workdir.files, "append_json"),
    "config": (workdir.files, "write_json"),
  }
  with monkeypatch.context() as patch:
    patch.setattr(*patched[name], full)
    with pytest.raises(UserError, match=r"workdir .* cannot be written: No space left"):
      fit(folder, num_epochs=4)
  assert intact(folder) >= before
  assert runs.rows(folder).startswith(rows)
  fit(folder, num_epochs=4)
  assert len(metrics_log.read(folder / metrics_log.FILE)) == 8


def test_a_read_only_disk(small_disk):
  folder = small_disk / "run"
  flags = [*processes.FLAGS, "--config.train.num_epochs=1"]
  assert launch("train", f"--workdir={folder}", *flags).returncode == 0
  before = intact(folder)
  subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
  more = ["--config.train.num_epochs=2"]
  for command in (
    ("train", f"--workdir={folder}", *processes.FLAGS, *more),
    ("train", f"--workdir={small_disk / 'other'}", *flags),
    ("evaluate", f"--workdir={folder}", "--num_images=5", "--noprogress"),
    ("sample", f"--workdir={folder}", "--seeds=0"),
    ("inpaint", f"--workdir={folder}"),
    ("report", f"--workdir={folder}"),
    ("page", f"--workdir={folder}"),
    ("export", f"--workdir={folder}", f"--out={small_disk / 'out'}"),
  ):
    result = launch(*command)
    assert result.returncode == 2, (command, result)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Read-only file system" in lines[0], lines
    assert "Traceback" not in result.stderr
  assert intact(folder) == before


def test_a_workdir_removed_during_training(tmp_path, monkeypatch):
  folder = tmp_path / "run"
  measure = loop._SingleRun._measure

  def remove(training, state, epoch):
    if epoch == 2:
      folder.rename(tmp_path / "elsewhere")
    return measure(training, state, epoch)

  with monkeypatch.context() as patch:
    patch.setattr(loop._SingleRun, "_measure", remove)
    with pytest.raises(UserError, match=r"run was removed or renamed during training"):
      fit(folder, num_epochs=4)
  assert not folder.exists()
  assert intact(tmp_path / "elsewhere") == 4
