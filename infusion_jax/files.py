"""Writing files so that a reader sees all of one or nothing of it."""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

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


def write_json(path: StrPath, value: Any) -> None:
  """Writes `value` as indented JSON, in one step."""
  text = json.dumps(value, indent=2, sort_keys=False, allow_nan=False)
  with replacing(path) as stream:
    stream.write(text.encode() + b"\n")


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
