"""Keeps decoded data sets: what took a minute once takes a moment from then on."""

import hashlib
import json
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterable

from infusion_jax.datasets import npz, paths
from infusion_jax.datasets.dataset import Dataset
from infusion_jax.errors import UserError
from infusion_jax.storage import files

_LOGGER = logging.getLogger(__name__)
# Part of every fingerprint: raise it when decoding or splitting changes.
_VERSION = 1


def load_or_build(
  name: str,
  sources: Iterable[pathlib.Path],
  build: Callable[[], Dataset],
  cache_dir: str | None = None,
) -> Dataset:
  """Returns a data set from the cache, or builds and stores it.

  A damaged entry is rebuilt; a cache that cannot be written costs a warning.

  Args:
    name: Name of the data set, any text.
    sources: The files it is decoded from. The entry is found by their paths,
      sizes and times of change; whatever else decides the result belongs in
      `name`.
    build: Decodes the data set.
    cache_dir: The folder; by default that of `default_dir`.

  Returns:
    The data set.

  Raises:
    UserError: `build` raised it.
  """
  folder = pathlib.Path(cache_dir).expanduser() if cache_dir else default_dir()
  stem = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")
  entry = folder / f"{stem}-{fingerprint(name, sources)}.npz"
  dataset = _read(name, entry)
  if dataset is None:
    dataset = build()
    _write(entry, dataset)
  return dataset


def default_dir() -> pathlib.Path:
  """Returns `$INFUSION_JAX_CACHE`, or else `~/.cache/infusion_jax`."""
  chosen = os.environ.get("INFUSION_JAX_CACHE") or "~/.cache/infusion_jax"
  return pathlib.Path(chosen).expanduser()


def fingerprint(name: str, sources: Iterable[pathlib.Path]) -> str:
  """Returns 16 hexadecimal digits that change when a source file does."""
  facts = [
    (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
    for path in sorted(sources)
  ]
  text = json.dumps([_VERSION, name, facts])
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(name: str, entry: pathlib.Path) -> Dataset | None:
  try:
    return npz.load(name, str(entry)) if entry.exists() else None
  except OSError:
    return (
      None  # An unreadable folder counts as empty: the write that follows reports it.
    )
  except UserError as error:
    _LOGGER.warning("cache entry is damaged and will be rebuilt: %s", error)
    return None


def _write(entry: pathlib.Path, dataset: Dataset) -> None:
  """Writes an entry in one step: a reader sees all of it or nothing."""
  try:
    entry.parent.mkdir(parents=True, exist_ok=True)
    # Another process may build the same entry: its copy goes, and ours replaces it.
    files.clear_temporary(entry)
    with files.replacing(entry) as stream:
      npz.save(stream, dataset)
  except OSError as error:
    _LOGGER.warning(
      "cannot cache the decoded data in %s (%s)", entry.parent, paths.one_line(error)
    )
