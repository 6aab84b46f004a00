"""Runs launchers inside the test's process: one import, one compilation for many.

result = launch("sample", "--workdir=DIR", "--seeds=5")
assert result.returncode == 0, result.stderr
"""

import contextlib
import importlib
import io
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

from absl import flags

from experiments import common

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = ROOT / "results/checkpoints/digits"

#: For `start`: a process that nothing disturbs writes into the cache of all tests.
WRITING = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}

_own_flags: dict[str, dict[str, flags.Flag]] = {}
_seen: dict[str, dict[str, flags.Flag]] = {}


class Launched(NamedTuple):
  """What a launcher returned and printed."""

  returncode: int
  stdout: str
  stderr: str


def launch(name: str, *arguments: object) -> Launched:
  """Runs `python -m experiments.<name>` with these arguments, as far as one can."""
  module = f"experiments.{name}"
  out, err = io.StringIO(), io.StringIO()
  with (
    flags_of(module),
    mock.patch.object(sys, "argv", [module, *map(str, arguments)]),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
  ):
    try:
      common.run(sys.modules[module].main)
      code = 0
    except SystemExit as exit:
      code = exit.code or 0
  return Launched(code, out.getvalue(), err.getvalue())


def start(name: str, *arguments: object, **variables: str) -> subprocess.Popen:
  """Starts `python -m experiments.<name>` as a process, to be signalled and killed.

  A kill may tear what it is just putting into the cache that all tests share: such
  processes only read it. No compilation takes long enough to be written.

  Args:
    name: of the launcher.
    *arguments: its command line.
    **variables: of its environment, besides those of this process.

  Returns:
    The process.
  """
  own = {"PYTHONPATH": str(ROOT), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
  return subprocess.Popen(
    [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
    cwd=ROOT,
    env={**os.environ, **own, **variables},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def wait_for(
  condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 300
) -> None:
  """Waits until something is so while a process lives."""
  end = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end, "it takes too long"
    time.sleep(0.02)


@contextlib.contextmanager
def flags_of(module: str):
  """Launchers define flags of equal names: only one's can be there at a time."""
  everything = flags.FLAGS
  # Flags that are put back forget their module: it is remembered here.
  for name, defined in everything.flags_by_module_dict().items():
    if name.startswith("experiments."):
      _seen.setdefault(name, {}).update({flag.name: flag for flag in defined})
  others = {
    name: flag
    for defined in _seen.values()
    for name, flag in defined.items()
    if name in everything and everything[name] is flag
  }
  mine = _seen.get(module, {})
  for name in others:
    delattr(everything, name)
  if module not in _own_flags:
    before = set(everything)
    importlib.import_module(module)
    new = {name: everything[name] for name in set(everything) - before}
    _own_flags[module] = mine or new
  for name, flag in _own_flags[module].items():
    if name not in everything:
      everything[name] = flag
  known = set(everything)
  try:
    yield
  finally:
    # Overrides of a configuration define flags of their own.
    for name in set(everything) - known:
      delattr(everything, name)
    # Configuration files are loaded one over the other.
    sys.modules.pop("config_config", None)
    for name, flag in _own_flags[module].items():
      flag.unparse()
      delattr(everything, name)
    for name, flag in others.items():
      everything[name] = flag


def tree(folder: pathlib.Path) -> dict[str, bytes]:
  """All files under a folder and what is in them."""
  return {
    str(file.relative_to(folder)): file.read_bytes()
    for file in sorted(folder.rglob("*"))
    if file.is_file()
  }
