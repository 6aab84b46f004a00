"""Stopping when asked to: the first signal asks, the second insists."""

import signal
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Exit code of a run that was stopped and can be resumed (EX_TEMPFAIL).
EXIT_CODE = 75


class Stopped(Exception):
  """Training was asked to stop; its state is saved and the run can be resumed."""


@contextmanager
def asking() -> Iterator[Callable[[], bool]]:
  """Turns SIGTERM and SIGINT into a question: `asked()` is True after one came.

  A second signal meets the handlers that were there before. Outside the main
  thread, where signals cannot be handled, nothing is ever asked.
  """
  came: list[int] = []
  before: dict[int, object] = {}

  def restore() -> None:
    for number, handler in before.items():
      # None: the handler is not Python's, like that of `jax.distributed`.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)

  def handle(number: int, frame: types.FrameType | None) -> None:
    del frame
    came.append(number)
    restore()

  try:
    for number in (signal.SIGTERM, signal.SIGINT):
      before[number] = signal.signal(number, handle)
  except ValueError:
    before.clear()
  try:
    yield lambda: bool(came)
  finally:
    restore()
