"""Death at any change of a folder, played inside this process.

Python tells an audit hook of every file that is opened for writing, renamed, removed
or made. At the change with a given number the process "dies": neither that change nor
any later one happens, as after a kill. Dying before change n + 1 is dying after
change n, so counting up covers both sides of every write.
"""

import contextlib
import os
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import memory_maps
import pytest

_PATHS = {
  "open": (0,),
  "os.mkdir": (0,),
  "os.remove": (0,),
  "os.rename": (0, 1),
  "os.rmdir": (0,),
  "os.truncate": (0,),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
  """The process would be dead here."""


class _Watched:
  """The folder whose changes are counted; a hook cannot be removed, so there is one."""

  folder: str | None = None
  count = 0
  last = 0
  lock = threading.Lock()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
  if _Watched.folder is None or event not in _PATHS or not _changes(event, arguments):
    return
  with _Watched.lock:
    _Watched.count += 1
    dead = _Watched.count > _Watched.last
  if dead:
    # Threads of libraries know what to do with an error of the system alone.
    main = threading.current_thread() is threading.main_thread()
    raise Killed if main else OSError(5, "the process is dead")


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
  if event == "open" and not arguments[2] & _WRITING:
    return False
  paths = (arguments[place] for place in _PATHS[event])
  return any(
    isinstance(path, (str, bytes, os.PathLike))
    and os.fsdecode(path).startswith(_Watched.folder)
    for path in paths
  )


@contextlib.contextmanager
def dying(
  folder: pathlib.Path, after: int = sys.maxsize
) -> Iterator[Callable[[], int]]:
  """Lets `after` changes of a folder happen and no more; yields how many came."""
  if not getattr(sys, "_faults_hook", False):
    sys.addaudithook(_hook)
    sys._faults_hook = True
  _Watched.count, _Watched.last, _Watched.folder = 0, after, str(folder)
  try:
    yield lambda: _Watched.count
  finally:
    _Watched.folder = None


def survives(
  folder: pathlib.Path,
  command: Callable[[pathlib.Path], None],
  result: Callable[[pathlib.Path], Any],
  same: Callable[[Any, Any], None],
  stride: int,
  begin: Callable[[pathlib.Path], None] = lambda place: None,
) -> int:
  """Runs a command, dies at every `stride`-th change, runs it again and compares.

  Args:
    folder: an empty folder for all of it.
    command: what is run in a folder of its own; the same twice must resume.
    result: reads what the command has left.
    same: compares two results; raises AssertionError.
    stride: 1: every change.
    begin: puts into a folder what the command needs.

  Returns:
    How many deaths there were.
  """
  whole, killed = folder / "whole", folder / "killed"
  begin(whole)
  with dying(whole) as count:
    command(whole)
  expected, changes = result(whole), count()
  deaths = 0
  for after in range(0, changes, stride):
    begin(killed)
    with dying(killed, after), pytest.raises(BaseException):  # noqa: B017
      command(killed)
    deaths += 1
    _wait_for_threads(killed)
    command(killed)
    same(result(killed), expected)
    shutil.rmtree(killed)
    memory_maps.keep_few()
  return deaths


def _wait_for_threads(folder: pathlib.Path) -> None:
  """Returns once nothing changes any more: of a dead process threads die, too."""
  before = None
  while before != (now := sorted(map(str, folder.rglob("*")))):
    before = now
    time.sleep(0.05)
