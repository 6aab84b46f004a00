"""Preempted: save, say how to go on, be gone in seconds; the second time at once."""

import os
import signal
import time

import launching
import pytest
from reliability import processes

from infusion_jax.storage import checkpoints
from infusion_jax.training import signals

_LONG = "--config.train.num_epochs=100000"


@pytest.mark.parametrize(
  "number",
  [
    signal.SIGTERM,
    pytest.param(signal.SIGINT, marks=pytest.mark.long),
    pytest.param(signal.SIGHUP, marks=pytest.mark.long),
  ],
)
def test_a_signal_saves_and_says_how_to_go_on(number, tmp_path):
  process = processes.start(tmp_path / "run", _LONG)
  launching.wait_for(lambda: processes.epochs(tmp_path / "run") >= 2, process)
  began = time.monotonic()
  process.send_signal(number)
  _, err = process.communicate(timeout=300)
  seconds = time.monotonic() - began
  assert process.returncode == signals.EXIT_CODE == 75
  assert "which is saved; the same command resumes" in err
  assert "Traceback" not in err
  step = int(err.split("stopped at step ")[1].split(",")[0])
  assert checkpoints.Checkpoints(tmp_path / "run").steps()[-1] == step
  # One on an idle machine.
  assert seconds < 30
  print(f"stopped in {seconds:.2f} s")


def test_a_second_signal_ends_at_once_and_damages_nothing(tmp_path):
  process = processes.start(tmp_path / "run", _LONG)
  launching.wait_for(lambda: processes.epochs(tmp_path / "run") >= 2, process)
  # Stopped by the kernel, it gets both before it can answer the first.
  process.send_signal(signal.SIGSTOP)
  process.send_signal(signal.SIGTERM)
  process.send_signal(signal.SIGINT)
  began = time.monotonic()
  process.send_signal(signal.SIGCONT)
  _, err = process.communicate(timeout=300)
  assert process.returncode in {signals.AT_ONCE + n for n in (2, 15)}
  assert "stopped at once" in err and "Traceback" not in err
  assert time.monotonic() - began < 10
  found = checkpoints.Checkpoints(tmp_path / "run")
  reached = found.about(found.steps()[-1])["epoch"]
  flags = (*processes.FLAGS, f"--config.train.num_epochs={reached + 1}")
  done = launching.launch("train", f"--workdir={tmp_path / 'run'}", *flags)
  assert done.returncode == 0, done.stderr


def test_an_echo_does_not_insist():
  term, ctrl_c = signal.SIGTERM, signal.SIGINT
  assert not signals.insists(None, term, 5.0)
  assert not signals.insists((term, 5.0), term, 5.1)
  assert signals.insists((term, 5.0), ctrl_c, 5.1)
  assert signals.insists((term, 5.0), term, 5.0 + signals.ECHO)


def test_one_signal_sent_twice_still_saves(tmp_path):
  """As `timeout` does: to the process, and to its group."""
  process = processes.start(tmp_path / "run", _LONG)
  launching.wait_for(lambda: processes.epochs(tmp_path / "run") >= 2, process)
  began = time.monotonic()
  process.send_signal(signal.SIGTERM)
  time.sleep(0.02)  # At once, both would be one to the kernel.
  process.send_signal(signal.SIGTERM)
  sent = time.monotonic() - began
  _, err = process.communicate(timeout=300)
  if sent >= signals.ECHO:
    pytest.skip(f"this machine took {sent:.1f} s to send two signals")
  assert process.returncode == signals.EXIT_CODE, err


def test_an_interruption_before_there_is_anything_to_save(tmp_path):
  process = processes.start(tmp_path / "run", _LONG)
  # Imports are done, and the first step is not.
  launching.wait_for((tmp_path / "run").exists, process)
  process.send_signal(signal.SIGINT)
  _, err = process.communicate(timeout=300)
  assert process.returncode == signals.EXIT_CODE
  assert "stopped at step" in err and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_asks_to_stop_and_the_handlers_come_back(number):
  kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
  before = [signal.getsignal(kind) for kind in kinds]
  with signals.asking() as asked:
    assert not asked()
    os.kill(os.getpid(), number)
    assert asked()
  assert [signal.getsignal(kind) for kind in kinds] == before


def test_nohup_is_kept():
  """Of a process that was started to outlive its terminal, SIGHUP stays ignored."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.asking() as asked:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not asked()
      assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)
