"""The rooms of the house, from the imports themselves (docs/architecture.md)."""

import ast
import collections
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LIBRARY = ROOT / "infusion_jax"

#: From the ground up: a room may import those before it, never one after it.
ORDER = (
  "commands",
  "errors",
  "terminal",
  "random",
  "gaussian",
  "states",
  "schedules",
  "pixels",
  "chain",
  "objectives",
  "config",
  "networks",
  "sampling",
  "restoration",
  "likelihood",
  "peers",
  "storage",
  "drawing",
  "datasets",
  "metrics",
  "model",
  "training",
  "sweep",
  "evaluation",
  "comparison",
  "views",
  "paper",
)
FILES = {
  ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
  for path in sorted(LIBRARY.rglob("*.py"))
}


def imports(name: str) -> set[str]:
  """The library's modules that a module imports at its head."""
  found = set()
  for node in ast.parse(FILES[name].read_text()).body:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
      LIBRARY.name
    ):
      for alias in node.names:
        longer = f"{node.module}.{alias.name}"
        found.add(longer if longer in FILES else node.module)
  return found - {name}


def room(name: str) -> str:
  return name.split(".")[1] if "." in name else "errors"


def test_every_room_stands_in_the_order():
  assert {room(name) for name in FILES} == set(ORDER)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"infusion_jax"}))
def test_no_module_imports_upwards(name):
  above = {
    other
    for other in imports(name)
    if ORDER.index(room(other)) > ORDER.index(room(name))
  }
  assert not above


def test_no_circle():
  arrows = {name: imports(name) for name in FILES}
  done: set[str] = set()
  while ready := {n for n in arrows if n not in done and arrows[n] <= done}:
    done |= ready
  # A package imports its modules, and they import one another: not the package.
  assert set(arrows) - done == set()


def test_the_root_holds_the_method():
  modules = [path.stem for path in LIBRARY.glob("*.py") if path.stem != "__init__"]
  assert len(modules) <= 10, sorted(modules)


def test_names_are_given_once():
  counts = collections.Counter(
    path.stem for path in FILES.values() if path.stem != "__init__"
  )
  assert [name for name, count in counts.items() if count > 1] == []


def test_every_room_is_described():
  page = (ROOT / "docs/architecture.md").read_text()
  described = re.findall(r"^\| `(\w+)/?`", page, re.M)
  assert described == list(ORDER)


def test_a_model_loads_without_what_trains_it():
  """Neither the optimizer's library nor readers of data sets."""
  code = "import sys, infusion_jax; infusion_jax.load; print(*sys.modules)"
  loaded = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
  ).stdout.split()
  for name in ("optax", "sklearn", "infusion_jax.datasets", "infusion_jax.training"):
    assert name not in loaded
