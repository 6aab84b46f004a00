"""Evaluations that are killed between two writes, or asked to stop by a signal."""

import dataclasses
import os
import pathlib
import signal

import numpy as np
import pytest
import runs
from launching import launch, start, wait_for

from infusion_jax.evaluation import Parts, Protocol, Session, session
from infusion_jax.evaluation.results import FILE
from infusion_jax.model import load
from infusion_jax.training import loop, signals

#: Two batches (the second as large as the first, so that shapes tell nothing) and
#: two repetitions; two compiled calls of 50 temperatures a batch.
SMALL = Protocol(
  num_images=0,
  num_chains=2,
  repetitions=2,
  temperatures=60,
  ais_images=32,
  ais_chains=1,
  num_samples=20,
)

NUMBERS = ("name", "value", "standard_error", "deviation", "details")

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def data():
  images = np.concatenate([runs.dataset(70).train[:16]] * 2)
  images[16:] = 16 - images[16:]
  return dataclasses.replace(runs.dataset(), test=images)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("interrupted") / "run"
  loop.fit(runs.config(num_epochs=1), runs.dataset(), folder, progress=False)
  return load(folder)


class Killed(BaseException):
  """What a kill looks like from within: nothing catches it."""


@pytest.fixture
def writes(monkeypatch):
  """Counts what changes the folder, and kills before the write numbered `at`."""
  counter = {"done": 0, "at": None}

  def counted(function):
    def write(*args, **options):
      if counter["done"] == counter["at"]:
        raise Killed
      counter["done"] += 1
      return function(*args, **options)

    return write

  monkeypatch.setattr(Parts, "add", counted(Parts.add))
  monkeypatch.setattr(pathlib.Path, "replace", counted(pathlib.Path.replace))
  unlink = pathlib.Path.unlink

  def unlinked(path, **options):
    # Not what is left of a temporary file: a killed process does not get there.
    tidy = counted(unlink) if path.suffix == ".npz" else unlink
    tidy(path, **options)

  monkeypatch.setattr(pathlib.Path, "unlink", unlinked)
  return counter


def measured(model, data, folder, metric):
  folder.mkdir(exist_ok=True)
  rows = Session(model, data, SMALL, folder, progress=False).measure(metric)
  return [
    {k: row[k] for k in ("name", "value", "standard_error", "deviation", "details")}
    for row in rows
  ]


@pytest.mark.parametrize(
  ("metric", "expected_writes"),
  # Four batches of two stages, of which the first is written and the second recorded;
  # the removal of the last stage; the report. Four batches; the report. The report.
  [("ais", 4 * 2 + 1 + 1), ("importance", 4 + 1), ("parzen", 1)],
)
def test_a_kill_between_any_two_writes_changes_no_number(
  model, data, tmp_path, writes, metric, expected_writes
):
  undisturbed = measured(model, data, tmp_path / "undisturbed", metric)
  assert writes["done"] == expected_writes
  for at in range(expected_writes):
    folder = tmp_path / str(at)
    writes.update(done=0, at=at)
    with pytest.raises(Killed):
      measured(model, data, folder, metric)
    writes.update(at=None)
    assert measured(model, data, folder, metric) == undisturbed, f"write {at}"
    assert not list(folder.glob("*.npz"))


def test_pieces_of_other_images_are_not_taken(model, data, tmp_path):
  """The same names, the same numbers of everything, other pixels."""
  measured(model, data, tmp_path, "importance")
  (tmp_path / FILE).unlink()
  other = dataclasses.replace(data, test=data.test[::-1])
  fresh = measured(model, other, tmp_path / "fresh", "importance")
  assert measured(model, other, tmp_path, "importance") == fresh


def test_a_session_stops_when_asked_and_keeps_what_is_done(model, data, tmp_path):
  count = {"calls": 0}

  def asked():
    count["calls"] += 1
    return count["calls"] > 2

  one = Session(model, data, SMALL, tmp_path, progress=False, asked=asked)
  with pytest.raises(signals.Stopped, match="what was measured is kept"):
    one.measure("importance")
  rows = (tmp_path / session.PARTS_FILE).read_text().split()
  assert rows
  undisturbed = measured(model, data, tmp_path / "undisturbed", "importance")
  assert measured(model, data, tmp_path, "importance") == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_command_with_code_75(workdir, number, monkeypatch):
  add = Parts.add

  def signalled(parts, key, row):
    add(parts, key, row)
    os.kill(os.getpid(), number)

  seed = f"--seed={int(number)}"
  flags = [f"--workdir={workdir}", "--num_chains=2", seed, "--noprogress"]
  before = signal.getsignal(number)
  with monkeypatch.context() as patch:
    patch.setattr(Parts, "add", signalled)
    stopped = launch("evaluate", *flags)
  assert stopped.returncode == 75, stopped
  assert "what was measured is kept; the same command resumes" in stopped.stderr
  assert "Traceback" not in stopped.stderr and not stopped.stdout
  assert signal.getsignal(number) is before
  again = launch("evaluate", *flags)
  assert again.returncode == 0 and "| bound " in again.stdout


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("interrupted") / "run"
  settings = [
    "data.max_images=60",
    "chain.num_steps=2",
    "model.hidden_sizes=(8,)",
    "train.num_epochs=1",
    "train.batch_size=20",
    "train.preview_every=0",
  ]
  overrides = [f"--config.{setting}" for setting in settings]
  data = "--config=configs/digits.py"
  result = launch("train", data, f"--workdir={workdir}", *overrides, "--noprogress")
  assert result.returncode == 0, result.stderr
  return workdir


@pytest.mark.slow
@pytest.mark.long
def test_a_process_that_is_stopped_and_killed_ends_with_the_same_numbers(workdir):
  """SIGTERM, then SIGKILL, at pieces of an annealing, from outside.

  Within a process, the kills between writes and the signals above show the same.
  """
  flags = [f"--workdir={workdir}", "--metrics=ais", "--noprogress"]
  flags += ["--ais_images=32", "--temperatures=400"]

  def whole():
    output, _ = start("evaluate", *flags).communicate(timeout=300)
    return output

  for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
    before = {path: path.stat().st_mtime_ns for path in workdir.glob("*.npz")}
    process = start("evaluate", *flags)
    wait_for(lambda seen=before: _moved(workdir, seen), process)
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode == code
  resumed = whole()
  assert "| ais " in resumed
  for name in (FILE, session.PARTS_FILE):
    (workdir / name).unlink()
  assert whole() == resumed


def _moved(workdir, before):
  """Whether a stage has been written since."""
  return any(
    path.stat().st_mtime_ns != before.get(path) for path in workdir.glob("*.npz")
  )
