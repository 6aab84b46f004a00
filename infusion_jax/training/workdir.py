"""A run's folder: whose it is, and what was launched in it."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from infusion_jax.config import Config, differences, dotted_keys
from infusion_jax.errors import UserError
from infusion_jax.storage import files, provenance

CONFIG_FILE = "config.json"
LAUNCHES_FILE = "launches.jsonl"
LOCK_FILE = "training.lock"


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: Config) -> Iterator[None]:
  """`claim`, and for its time no other process may train in the folder.

  Raises:
    UserError: see `claim`; or another process trains there.
  """
  check(workdir, config)
  _make(workdir)
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(files.locked(workdir / LOCK_FILE, f"workdir {workdir}"))
    except OSError as error:
      raise unwritable(workdir, error) from error
    claim(workdir, config)
    yield


def check(workdir: pathlib.Path, config: Config) -> None:
  """Raises UserError where the folder holds another run or something else."""
  if (workdir / CONFIG_FILE).exists():
    _check_same(workdir, read_config(workdir), config)
  elif workdir.exists() and not workdir.is_dir():
    raise UserError(f"workdir {workdir} is a file; allowed is a folder")
  elif workdir.exists() and not all(map(_is_beginning, workdir.iterdir())):
    raise UserError(
      f"workdir {workdir} is not empty and holds no {CONFIG_FILE};"
      " allowed is a new or empty folder, or that of a run"
    )


def _is_beginning(path: pathlib.Path) -> bool:
  """Whether a file is left of a run that was killed before it had a configuration."""
  return path.name == LOCK_FILE or path.name.startswith(f".{CONFIG_FILE}-")


def claim(workdir: pathlib.Path, config: Config) -> None:
  """Makes the folder this configuration's own, or finds that it already is.

  Raises:
    UserError: the folder holds another run, something else, or cannot be used.
  """
  check(workdir, config)
  _make(workdir)
  stored = read_config(workdir) if (workdir / CONFIG_FILE).exists() else None
  try:
    files.clear_temporary(workdir / CONFIG_FILE)
    if stored != config:
      files.write_json(workdir / CONFIG_FILE, config.to_dict())
    files.append_json(workdir / LAUNCHES_FILE, provenance.describe())
  except OSError as error:
    raise unwritable(workdir, error) from error


def check_there(workdir: pathlib.Path) -> None:
  """Raises UserError where a run's folder has gone while it was training."""
  if not (workdir / CONFIG_FILE).is_file():
    raise UserError(
      f"workdir {workdir} was removed or renamed during training, which therefore ends"
    )


def unwritable(workdir: pathlib.Path, error: OSError) -> UserError:
  """The sentence for a folder that the disk or its permissions do not let grow."""
  return UserError(f"workdir {workdir} cannot be written: {error.strerror or error}")


def _make(workdir: pathlib.Path) -> None:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise unwritable(workdir, error) from error


def read_config(workdir: pathlib.Path) -> Config:
  """The configuration of the run in a folder.

  Raises:
    UserError: there is no run, or its configuration is damaged.
  """
  path = workdir / CONFIG_FILE
  if not path.exists():
    raise UserError(
      f"{path} does not exist; allowed are workdirs made by experiments.train"
    )
  return Config.from_dict(files.read_json(path))


def read_launches(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """What was launched in a folder and where (see `provenance`), oldest first.

  Raises:
    UserError: the file cannot be read.
  """
  path = workdir / LAUNCHES_FILE
  try:
    return files.read_json_lines(path) if path.exists() else []
  except OSError as error:
    raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _check_same(workdir: pathlib.Path, stored: Config, config: Config) -> None:
  changed = differences(stored, config)
  free = dotted_keys("length", "notes", "place")
  if stored.train.decay != "constant":
    # With a decay, the length of the run decides every learning rate.
    free.remove("train.num_epochs")
  for key, (old, new) in changed.items():
    if key not in free:
      raise UserError(
        f"workdir {workdir} holds a run with {key} = {old!r}, not {new!r};"
        " continue it with its own configuration or choose another workdir"
      )
