"""Writing files so that a reader sees all of one or nothing of it."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from infusion_jax.errors import UserError

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: StrPath) -> Iterator[BinaryIO]:
  """Opens a temporary file that takes the place of `path` when all went well.

  On an error, a full disk or a kill the file at `path` stays as it was.

  Raises:
    OSError: the folder cannot be written to, or is full.
  """
  path = pathlib.Path(path)
  with tempfile.NamedTemporaryFile(
    dir=path.parent, prefix=f".{path.name}-", suffix=".tmp", delete=False
  ) as stream:
    temporary = pathlib.Path(stream.name)
    try:
      yield stream
      stream.flush()
      os.fsync(stream.fileno())
      _share_like_others(stream.fileno())
      temporary.replace(path)
    finally:
      # After the replacement there is nothing left to remove.
      temporary.unlink(missing_ok=True)


def clear_temporary(path: StrPath) -> None:
  """Removes what kills in the middle of `replacing(path)` left behind.

  The name may be a pattern, like `epoch_*`.
  """
  path = pathlib.Path(path)
  for left in path.parent.glob(f".{path.name}-*.tmp"):
    left.unlink(missing_ok=True)


def write_json(path: StrPath, value: Any) -> None:
  """Writes `value` as indented JSON, in one step."""
  text = json.dumps(value, indent=2, sort_keys=False, allow_nan=False)
  with replacing(path) as stream:
    stream.write(text.encode() + b"\n")


def append_json(path: StrPath, row: Mapping[str, Any]) -> None:
  """Adds one JSON object as a line of its own, also after one that a kill tore."""
  with pathlib.Path(path).open("ab+") as stream:
    if stream.tell():
      stream.seek(-1, os.SEEK_END)
      torn = stream.read(1) != b"\n"
    else:
      torn = False
    stream.write(b"\n" * torn + json.dumps(row).encode() + b"\n")


def read_json_lines(path: StrPath) -> list[dict[str, Any]]:
  """The JSON objects of a file, one a line; torn or damaged lines are left out."""
  found = []
  for line in pathlib.Path(path).read_bytes().splitlines():
    try:
      row = json.loads(line)
    except ValueError:
      continue
    if isinstance(row, dict):
      found.append(row)
  return found


@contextlib.contextmanager
def locked(path: StrPath, what: str) -> Iterator[None]:
  """Holds a lock that no second process can have; it ends with this one.

  The file may stay: it is the kernel that knows who holds the lock, so one that a
  killed process left is in nobody's way. On network file systems this needs NFS 4,
  or 3 with its lock service; where locks are not known at all nothing is held.

  Args:
    path: the lock's file; its folder exists.
    what: is refused to others, for the message.

  Raises:
    UserError: another process has it.
    OSError: the file cannot be made.
  """
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    holder = os.read(descriptor, 200).decode(errors="replace").strip()
    os.close(descriptor)
    raise UserError(
      f"{what} is in use by {holder or 'another process'}; wait for its end, or choose"
      " another folder"
    ) from error
  except OSError:
    # A file system without locks: better unguarded than unusable.
    pass
  try:
    # Who holds it is a help to the next one; a full disk may keep it to itself.
    with contextlib.suppress(OSError):
      os.ftruncate(descriptor, 0)
      os.write(
        descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode()
      )
    yield
  finally:
    os.close(descriptor)


def _share_like_others(descriptor: int) -> None:
  """Gives a temporary file, made private, the permissions of an ordinary one."""
  mask = os.umask(0)
  os.umask(mask)
  os.fchmod(descriptor, 0o666 & ~mask)


def digest(path: StrPath) -> str:
  """Tells the content of a file from others: 16 hexadecimal digits of its SHA-256.

  Raises:
    OSError: the file cannot be read.
  """
  with pathlib.Path(path).expanduser().open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
