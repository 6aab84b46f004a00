"""Networks of a user's own: registered from Python, or in a file `model.name` names.

A configuration or a checkpoint can name a file, "own.py:Class". Naming it does not
run it: a checkpoint may come from a stranger. `run` runs a file when a person asks for
it, and `build` then finds the classes of that file.
"""

import hashlib
import os
import pathlib
import sys
import textwrap
import traceback
import types
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn

from infusion_jax.errors import UserError


class _File(NamedTuple):
  """A file that was run: a digest of its text, and what it defines."""

  digest: str
  module: types.ModuleType


_FILES: dict[pathlib.Path, _File] = {}
_REGISTERED: dict[str, type[nn.Module]] = {}


def register(name: str, module: type[nn.Module]) -> None:
  """Makes a Flax module the network `model.name = name` of this process.

  Args:
    name: how configurations and checkpoints call it.
    module: called as `module(z, time, train)`, returns a Gaussian over [B, H, W, C].
      Of its fields those that are called like a key of `config.model` or
      `config.chain` take its value.

  Raises:
    UserError: it is no Flax module.
  """
  if not _is_network(module):
    raise UserError(f"network {name!r} is {module!r}; allowed are classes of nn.Module")
  _REGISTERED[name] = module


def run(path: str | os.PathLike[str]) -> None:
  """Runs a Python file; the Flax modules it defines can be named from then on.

  A file whose text has not changed since it was last run is not run again.

  Raises:
    UserError: it is not there, is no Python file, or raises an error.
  """
  place = pathlib.Path(path).expanduser().resolve()
  if place.suffix != ".py":
    raise UserError(f"code file {str(path)!r} is no .py file")
  try:
    source = place.read_bytes()
  except OSError as error:
    raise UserError(f"code file {path} cannot be read: {error.strerror}") from error
  digest = hashlib.sha256(source).hexdigest()[:16]
  if place not in _FILES or _FILES[place].digest != digest:
    _FILES[place] = _File(digest, _executed(place, source, digest))


def run_named(name: str) -> None:
  """Runs the file that "file.py:Class" names; does nothing for any other name.

  Only for names that a person typed, such as those on a command line.

  Raises:
    UserError: see `run`.
  """
  if named := parts(name):
    try:
      run(named[0])
    except UserError as error:
      raise UserError(f"model.name is {name!r}; {error}") from error


def parts(name: str) -> tuple[str, str] | None:
  """File and class of "file.py:Class"; None for the name of anything else."""
  path, _, class_name = name.rpartition(":")
  return (path, class_name) if path.endswith(".py") else None


def files() -> tuple[str, ...]:
  """The files that were run in this process, to be run in another."""
  return tuple(map(str, _FILES))


def find(name: str) -> type[nn.Module] | None:
  """The class a name stands for; None for a name that is not registered.

  A file is found by its place, or else by its name among those that were run: a
  checkpoint that has travelled names a place of another machine.

  Raises:
    UserError: the name is of a file that was not run, or lacks the class.
  """
  if name in _REGISTERED:
    return _REGISTERED[name]
  if not (named := parts(name)):
    return None
  path, class_name = named
  found = getattr(_file_of(name, path).module, class_name, None)
  if not _is_network(found):
    raise UserError(
      f"model.name is {name!r}; {pathlib.Path(path).name} has no Flax module"
      f" {class_name!r}"
    )
  return found


def digest(name: str) -> str:
  """Tells the text of a network's file from others; empty for any other network."""
  named = parts(name)
  return _file_of(name, named[0]).digest if named and name not in _REGISTERED else ""


def digest_of(definition: Callable) -> str:
  """Tells the text of the file that defines a function; empty if none was run."""
  for file in _FILES.values():
    if file.module.__name__ == definition.__module__:
      return file.digest
  return ""


def described(name: str) -> dict[str, str]:
  """What a checkpoint says of a network's file, besides its name."""
  found = digest(name)
  return {"network_code": found} if found else {}


def explained(error: BaseException, module: type[nn.Module]) -> str:
  """An error in a network's own code, with its file and line, for messages."""
  file = getattr(sys.modules.get(module.__module__), "__file__", None)
  return _explained(error, pathlib.Path(file or module.__name__))


def _file_of(name: str, path: str) -> _File:
  place = pathlib.Path(path).expanduser().resolve()
  if place in _FILES:
    return _FILES[place]
  alike = [file for other, file in _FILES.items() if other.name == place.name]
  if len(alike) == 1:
    return alike[0]
  if alike:
    raise UserError(
      f"model.name is {name!r}; several files of that name were run, none of them there"
    )
  there = "" if place.exists() else " (it is not there: say where it is now)"
  raise UserError(
    f"model.name is {name!r}, a network in a file of its own, which is run only if you"
    f" ask for it: add --code={path}, or in Python load(..., code={path!r}), if you"
    f" trust that file{there}"
  )


def _executed(place: pathlib.Path, source: bytes, digest: str) -> types.ModuleType:
  module = types.ModuleType(f"infusion_jax_user_code_{place.stem}_{digest}")
  module.__file__ = str(place)
  # Dataclasses, and so Flax modules, look their own module up.
  sys.modules[module.__name__] = module
  try:
    exec(compile(source, str(place), "exec"), module.__dict__)
  except (Exception, SystemExit) as error:
    del sys.modules[module.__name__]
    raise UserError(
      f"code file {place.name} cannot be run: {_explained(error, place)}"
    ) from error
  return module


def _explained(error: BaseException, place: pathlib.Path) -> str:
  told = textwrap.shorten(str(error), 160, placeholder=" ...")
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == str(place)]
  where = f" ({place.name}, line {lines[-1]})" if lines else ""
  return f"{type(error).__name__}: {told}{where}"


def _is_network(value: object) -> bool:
  return isinstance(value, type) and issubclass(value, nn.Module)
