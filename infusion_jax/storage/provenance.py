"""Where a result comes from: command, commit, versions, device."""

import importlib.metadata
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from typing import Any

import jax

from infusion_jax import commands

#: Names the commit where the package lies in no checkout, as on a rented machine.
COMMIT_VARIABLE = "INFUSION_JAX_COMMIT"

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

#: An absolute path; its last part is the group. "1/4" and "a/b" are none.
_ABSOLUTE = re.compile(r"(?<![\w.~/:])/(?:[^\s/'\":=]+/)*([^\s/'\":=]+)")


def describe() -> dict[str, Any]:
  """The facts a result should carry, ready for JSON."""
  return {
    "command": command(),
    "commit": commit(),
    "versions": versions(),
    "device": device(),
    "num_devices": jax.device_count(),
  }


def device() -> str:
  """What computes, such as "gpu: NVIDIA H200" or "cpu: AMD EPYC, 2 cores"."""
  first = jax.devices()[0]
  if first.platform != "cpu":
    return f"{first.platform}: {first.device_kind}"
  return f"cpu: {_processor()}, {os.cpu_count()} cores"


def command() -> str:
  """The command line of this process, as one would type it."""
  if commands.current:
    return shlex.join([commands.current, *sys.argv[1:]])
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  if spec is None:
    return shlex.join(sys.argv)
  name = spec.name.removesuffix(".__main__")
  return shlex.join(["python", "-m", name, *sys.argv[1:]])


def without_folders(value: Any) -> Any:
  """The same with the last part alone of every absolute path in its texts.

  What is shared need not tell how folders are named on the machine it comes from.

  Args:
    value: a text, or lists and dictionaries of them; other values stay.
  """
  if isinstance(value, str):
    return _ABSOLUTE.sub(r"\1", value)
  if isinstance(value, dict):
    return {key: without_folders(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [without_folders(item) for item in value]
  return value


def commit() -> str:
  """The commit of the checkout this package lies in, "+changes" if edited.

  Results of earlier runs, in the folder `results`, are no part of the program:
  renewing them is no change. Outside a checkout: what INFUSION_JAX_COMMIT says.
  """
  folder = pathlib.Path(__file__).resolve().parent
  try:
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    program = (":(top)", ":(top,exclude)results")
    changes = _git(
      folder, "status", "--porcelain", "--untracked-files=no", "--", *program
    )
  except (OSError, subprocess.SubprocessError):
    return os.environ.get(COMMIT_VARIABLE, "unknown")
  return head + ("+changes" if changes else "")


def versions() -> dict[str, str]:
  """Versions of Python and of the packages a result depends on."""
  found = {"python": platform.python_version()}
  for package in ("infusion_jax", *_PACKAGES):
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def _processor() -> str:
  """The processor's name as Linux tells it, elsewhere as Python does."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  for line in lines:
    name, _, value = line.partition(":")
    if name.strip() == "model name":
      return value.strip()
  return platform.processor() or platform.machine()


def _git(folder: pathlib.Path, *arguments: str) -> str:
  return subprocess.run(
    ["git", *arguments],
    cwd=folder,
    capture_output=True,
    text=True,
    check=True,
    timeout=10,
  ).stdout.strip()
