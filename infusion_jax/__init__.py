"""Infusion training: a Markov chain learns to turn noise into images.

`docs/architecture.md` says which room holds what, and what each may import.
"""

import importlib
import pathlib
from typing import Any

from infusion_jax.errors import UserError

__version__ = "0.1.0"

__all__ = ["Model", "UserError", "__version__", "load"]


_LAZY = ("Model", "load")


def __getattr__(name: str) -> Any:
  """Imports `load`, `Model` and the rooms when they are first asked for."""
  if name in _LAZY:
    return getattr(importlib.import_module(f"{__name__}.model"), name)
  if name in _rooms():
    return importlib.import_module(f"{__name__}.{name}")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *_LAZY, *_rooms()})


def _rooms() -> set[str]:
  """The modules and packages of this folder."""
  places = pathlib.Path(__file__).parent.iterdir()
  names = {place.stem for place in places if place.stem.isidentifier()}
  return {name for name in names if not name.startswith("_")}
