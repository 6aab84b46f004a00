"""What a command does with its process before anything heavy is imported.

`experiments/__init__.py` calls `begin` when a launcher starts; this module imports
the standard library alone, so that little time passes before.
"""

import contextlib
import os
import signal
import sys
import types
from collections.abc import Iterator
from typing import Any, TextIO

#: Added to a signal's number where it ends the process, as shells do.
AT_ONCE = 128


class Lasting:
  """A text stream whose writes succeed although nobody can read them any more.

  A closed pipe (`| head`) or a terminal that is gone must not end a training. From
  the first failure on the stream writes to nowhere.
  """

  def __init__(self, stream: TextIO) -> None:
    self._stream = stream

  def __getattr__(self, name: str) -> Any:
    return getattr(self._stream, name)

  def write(self, text: str) -> int:
    """Writes a text, if anything takes it; returns its length."""
    try:
      return self._stream.write(text)
    except OSError as error:
      self._let_go(error)
      return len(text)

  def flush(self) -> None:
    """Hands over what is buffered, if anything takes it."""
    try:
      self._stream.flush()
    except OSError as error:
      self._let_go(error)

  def _let_go(self, error: OSError) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, self._stream.fileno())
    os.close(nowhere)
    if self._stream is sys.__stdout__ and not isinstance(error, BrokenPipeError):
      print(f"output cannot be written ({error.strerror})", file=sys.stderr)


def begin() -> None:
  """Makes streams last, and Ctrl-C end the process in silence with code 130."""
  _open_closed_descriptors()
  _quieten_libraries()
  sys.stdout = Lasting(sys.stdout or _nowhere(1))
  sys.stderr = Lasting(sys.stderr or _nowhere(2))
  # A process that was started to ignore Ctrl-C has another handler.
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Ctrl-C raises KeyboardInterrupt inside, as in any program; not before or after."""
  ours = signal.getsignal(signal.SIGINT) is _end
  if ours:
    signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    yield
  finally:
    if ours:
      signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: types.FrameType | None) -> None:
  del frame
  os._exit(AT_ONCE + number)


def _quieten_libraries() -> None:
  """The TPU's library then tells errors alone, unless the user asks for more."""
  for name in ("TPU_MIN_LOG_LEVEL", "TPU_STDERR_LOG_LEVEL"):
    os.environ.setdefault(name, "2")


def _open_closed_descriptors() -> None:
  """Opens descriptors 0 to 2 where they are closed.

  Otherwise the next files that are opened get these numbers, and what libraries
  print would be written into a checkpoint.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      # dup takes the lowest free number, which is this one.
      os.open(os.devnull, os.O_RDWR)


def _nowhere(descriptor: int) -> TextIO:
  return os.fdopen(descriptor, "w", closefd=False)
