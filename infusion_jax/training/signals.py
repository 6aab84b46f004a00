"""Stopping when asked to: the first signal asks, the second insists."""

import os
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

#: Exit code of a run that was stopped and can be resumed (EX_TEMPFAIL).
EXIT_CODE = 75
#: Added to a signal's number where it ends the process at once, as shells do.
AT_ONCE = 128
#: Seconds within which the same signal again is an echo of the first: `timeout`, and
#: whoever passes a terminal's Ctrl-C on to a group, sends it twice.
ECHO = 0.5

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(Exception):
  """Training was asked to stop; its state is saved and the run can be resumed."""


@contextmanager
def asking() -> Iterator[Callable[[], bool]]:
  """Turns SIGTERM, SIGINT and SIGHUP into a question: did one come?

  A second signal (see `insists`) ends the process at once, whatever it is doing:
  files are replaced whole or not at all, so nothing but the work since the last
  checkpoint is lost. Outside the main thread, where signals cannot be handled,
  nothing is ever asked.
  """
  came: list[int] = []
  before: dict[int, object] = {}

  def handle(number: int, frame: types.FrameType | None) -> None:
    del frame
    came.append(number)

  try:
    for number in _SIGNALS:
      # Keeps `nohup`'s setting: the run goes on when its terminal closes.
      if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
        continue
      before[number] = signal.signal(number, handle)
  except ValueError:
    before.clear()
  try:
    with _second_ends_at_once() if before else nullcontext():
      yield lambda: bool(came)
  finally:
    for number, handler in before.items():
      # None: the handler is not Python's, like that of `jax.distributed`.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)


def insists(first: tuple[int, float] | None, number: int, now: float) -> bool:
  """Whether a signal is a second one and no echo of the first.

  Args:
    first: the first signal's number and the second when it came; None: none came.
    number: of the signal that comes.
    now: in seconds, of the same clock.
  """
  if first is None:
    return False
  return number != first[0] or now - first[1] >= ECHO


@contextmanager
def _second_ends_at_once() -> Iterator[None]:
  """Counts signals in a thread of their own.

  Python's handlers wait for the main thread, which may be compiling for a minute.
  """
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

  def watch() -> None:
    first = None
    while read := os.read(reader, 1):
      number, now = read[0], time.monotonic()
      if number not in _SIGNALS:
        continue
      if insists(first, number, now):
        os.write(2, b"\nstopped at once, without saving\n")
        os._exit(AT_ONCE + number)
      first = first or (number, now)
    os.close(reader)

  thread = threading.Thread(target=watch, name="signals", daemon=True)
  thread.start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(before)
    os.close(writer)
    thread.join()
