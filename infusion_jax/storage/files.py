"""Writing files so that a reader sees all of one or nothing of it."""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from infusion_jax.errors import UserError

StrPath = str | os.PathLike[str]

_CHECK = "check"
#: Bytes before the end of a file in which its last line begins.
_LONGEST_LINE = 1 << 24

_LOGGER = logging.getLogger(__name__)


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


def save_bytes(path: StrPath, content: bytes) -> None:
  """Writes a file, whole or not at all; makes its folder.

  Raises:
    UserError: a place one cannot write to.
  """
  path = pathlib.Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
      stream.write(content)
  except OSError as error:
    raise UserError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def write_json(path: StrPath, value: Mapping[str, Any]) -> None:
  """Writes an object as indented JSON with a check of its content, in one step."""
  text = json.dumps(_with_check(value), indent=2, sort_keys=False, allow_nan=False)
  with replacing(path) as stream:
    stream.write(text.encode() + b"\n")


def read_json(path: StrPath) -> dict[str, Any]:
  """Reads what `write_json` wrote; a file of before it wrote checks is read, too.

  Returns:
    The object, without its check.

  Raises:
    UserError: the file cannot be read, or is damaged.
  """
  try:
    value, checked = _without_check(json.loads(pathlib.Path(path).read_bytes()))
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
  except (ValueError, RecursionError) as error:
    raise UserError(f"{path} cannot be read as JSON: {error}") from error
  if checked is False:
    raise UserError(f"{path} is damaged: its content does not fit its check")
  return value


def json_line(row: Mapping[str, Any]) -> bytes:
  """One object as a line of a `.jsonl` file, with a check of its content."""
  return json.dumps(_with_check(row)).encode() + b"\n"


def append_json(path: StrPath, row: Mapping[str, Any]) -> None:
  """Adds one object as a line of its own; a line that a kill tore makes room for it."""
  with pathlib.Path(path).open("ab+") as stream:
    _end_last_line(stream)
    stream.write(json_line(row))


def _end_last_line(stream: BinaryIO) -> None:
  """Leaves the file at the beginning of a line."""
  end = stream.seek(0, os.SEEK_END)
  stream.seek(max(0, end - _LONGEST_LINE))
  last = stream.read().rpartition(b"\n")[2]
  stream.seek(0, os.SEEK_END)
  if not last:
    return
  if _is_torn(last):
    stream.truncate(end - len(last))
  else:
    stream.write(b"\n")


def _is_torn(last: bytes) -> bool:
  """Whether a last line that does not end is the beginning of one, left by a kill."""
  try:
    json.loads(last)
  except (ValueError, RecursionError):
    return json.dumps(_CHECK).encode() not in last
  return False


def read_json_lines(path: StrPath) -> list[dict[str, Any]]:
  """The objects of a `.jsonl` file, without their checks.

  A damaged line is left out, and a warning names it. A last line that a kill tore is
  left out in silence. Lines of before lines had checks are taken as they are.

  Raises:
    OSError: the file cannot be read.
  """
  found, damaged = intact_lines(path)
  for number in damaged:
    _LOGGER.warning("%s: line %d is damaged and is left out", path, number)
  return found


def intact_lines(path: StrPath) -> tuple[list[dict[str, Any]], list[int]]:
  """The objects of `read_json_lines`, and the numbers of the damaged lines."""
  *lines, last = pathlib.Path(path).read_bytes().split(b"\n")
  if last and not _is_torn(last):
    lines.append(last)
  found, damaged, checks_begun = [], [], False
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row, checked = _without_check(json.loads(line))
    except (ValueError, RecursionError):
      row, checked = {}, False
    # Runs of before lines had checks went on with checked ones, never the reverse.
    if checked is False or (checked is None and checks_begun):
      damaged.append(number)
      continue
    checks_begun = checks_begun or bool(checked)
    found.append(row)
  return found, damaged


def _with_check(row: Mapping[str, Any]) -> dict[str, Any]:
  return {**row, _CHECK: _check(row)}


def _without_check(row: Any) -> tuple[dict[str, Any], bool | None]:
  """An object without its check, and whether it fits; None: it has no check.

  Raises:
    ValueError: it is no object.
  """
  if not isinstance(row, dict):
    raise ValueError("an object in braces was expected")
  if not row:
    return row, None
  *rest, (name, value) = row.items()
  content = dict(rest)
  # If the name is damaged, the content is still whole.
  if value == _check(content):
    return content, True
  return row, False if name == _CHECK else None


def _check(row: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:8]


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
    # Goes on without a lock where the file system has none.
    pass
  try:
    # Tells the next process who holds the lock, unless the disk is full.
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
