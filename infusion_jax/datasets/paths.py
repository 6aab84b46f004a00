"""Careful reading: no file makes us allocate more than it really holds."""

import os
import pathlib
from typing import BinaryIO

from infusion_jax.errors import UserError

# Deflate reaches 1032 to 1 at most; a header that promises more is damaged.
MAX_DEFLATE_RATIO = 1032
_CHUNK_BYTES = 1 << 20


def read_at_most(stream: BinaryIO, limit: int) -> bytearray:
  """Reads to the end of a stream, or until more than `limit` bytes have come.

  Memory grows with what the stream yields, not with `limit`. A result longer
  than `limit` says that the stream goes on.
  """
  data = bytearray()
  while len(data) <= limit:
    chunk = stream.read(min(_CHUNK_BYTES, limit + 1 - len(data)))
    if not chunk:
      break
    data += chunk
  return data


def existing_path(path: str | os.PathLike | None, source: str) -> pathlib.Path:
  """Returns the path that a source reads, with `~` expanded.

  Raises:
    UserError: No path is given, or nothing is there.
  """
  if not path:
    raise UserError(f"data.path is empty; source {source!r} reads from a path")
  expanded = pathlib.Path(path).expanduser()
  if not os.path.lexists(expanded):
    raise UserError(f"data.path is {str(path)!r}; there is no such file or folder")
  return expanded


def one_line(error: BaseException) -> str:
  """Returns the first line of an exception's message, or else its type."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return next(iter(str(error).strip().splitlines()), type(error).__name__)
