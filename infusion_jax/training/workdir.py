"""A run's folder: whose it is, and what was launched in it."""

import json
import pathlib
from typing import Any

from infusion_jax import files, provenance
from infusion_jax.config import Config, differences
from infusion_jax.errors import UserError

CONFIG_FILE = "config.json"
LAUNCHES_FILE = "launches.jsonl"

#: Keys that may change when a run goes on: how long, how often, where from.
_FREE = {
  "data.path",
  "data.cache_dir",
  "train.checkpoint_every",
  "train.keep_every",
  "train.num_epochs",
  "train.patience",
  "train.preview_every",
}


def claim(workdir: pathlib.Path, config: Config) -> None:
  """Makes the folder this configuration's own, or finds that it already is.

  Raises:
    UserError: the folder holds another run, something else, or cannot be used.
  """
  stored = read_config(workdir) if (workdir / CONFIG_FILE).exists() else None
  if stored is not None:
    _check_same(workdir, stored, config)
  elif workdir.exists() and not workdir.is_dir():
    raise UserError(f"workdir {workdir} is a file; a folder is wanted")
  elif workdir.exists() and any(workdir.iterdir()):
    raise UserError(
      f"workdir {workdir} is not empty and holds no {CONFIG_FILE};"
      " a new or empty folder, or that of a run, is wanted"
    )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if stored != config:
      files.write_json(workdir / CONFIG_FILE, config.to_dict())
    with (workdir / LAUNCHES_FILE).open("a") as stream:
      stream.write(json.dumps(provenance.describe()) + "\n")
  except OSError as error:
    raise UserError(f"workdir {workdir} cannot be written: {error.strerror}") from error


def read_config(workdir: pathlib.Path) -> Config:
  """The configuration of the run in a folder.

  Raises:
    UserError: there is no run, or its configuration is damaged.
  """
  return Config.from_dict(_read_json(workdir / CONFIG_FILE))


def read_launches(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """What was launched in a folder and where (see `provenance`), oldest first.

  Raises:
    UserError: the file is damaged.
  """
  path = workdir / LAUNCHES_FILE
  try:
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read as JSON lines: {error}") from error


def _read_json(path: pathlib.Path) -> Any:
  try:
    return json.loads(path.read_text())
  except FileNotFoundError as error:
    raise UserError(
      f"{path} does not exist; a workdir made by experiments.train is wanted"
    ) from error
  except (OSError, ValueError) as error:
    raise UserError(f"{path} cannot be read as JSON: {error}") from error


def _check_same(workdir: pathlib.Path, stored: Config, config: Config) -> None:
  changed = differences(stored, config)
  free = set(_FREE)
  if stored.train.decay != "constant":
    # The length of the run decides every learning rate of it.
    free.remove("train.num_epochs")
  for key, (old, new) in changed.items():
    if key not in free:
      raise UserError(
        f"workdir {workdir} holds a run with {key} = {old!r}, not {new!r};"
        " continue it with its own configuration or choose another workdir"
      )
