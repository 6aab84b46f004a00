"""Memory that this process has taken, watched while it works."""

import contextlib
import pathlib
import threading
from collections.abc import Iterator

#: Seconds between two looks.
_PAUSE = 0.005


def anonymous() -> int:
  """Bytes in use, without pages of files, which the kernel can drop; Linux only."""
  status = pathlib.Path("/proc/self/status").read_text()
  lines = dict(line.split(":", 1) for line in status.splitlines())
  return 1024 * int(lines["RssAnon"].split()[0])


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
  """Looks again and again, from a thread.

  Yields:
    What `anonymous` said so far; complete when the block has ended.
  """
  seen, done = [anonymous()], threading.Event()

  def watch() -> None:
    while not done.wait(_PAUSE):
      seen.append(anonymous())

  watcher = threading.Thread(target=watch)
  watcher.start()
  try:
    yield seen
  finally:
    done.set()
    watcher.join()
