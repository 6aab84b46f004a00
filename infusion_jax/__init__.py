"""Infusion training: a Markov chain learns to turn noise into images.

`docs/architecture.md` says which room holds what, and what each may import.
"""

from typing import Any

from infusion_jax.errors import UserError

__version__ = "0.1.0"

__all__ = ["Model", "UserError", "__version__", "load"]


def __getattr__(name: str) -> Any:
  """Imports `load` and `Model` when they are first asked for: both need Orbax."""
  if name in ("load", "Model"):
    from infusion_jax import model

    return getattr(model, name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
