"""Fixtures and settings shared by all tests."""

import atexit
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib import metadata

# Nearly all the time of small tests is compilation: little of it is optimized, each
# program is one module for LLVM, and launchers share what they compiled. Set before JAX
# is imported, and inherited by the launchers that tests start.
_quick = [
  "--xla_backend_optimization_level=0",
  "--xla_cpu_parallel_codegen_split_count=1",
]
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):
  # The older emitters compile twice as fast. jaxlib 0.11 no longer has them, and ends
  # at a flag that it does not know.
  _quick.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_quick])
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  # New in every run, and shared by its processes: an entry that an interrupted run
  # tore would be met again and again.
  _cache = tempfile.mkdtemp(prefix="infusion_jax_tests_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
  atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# Under nohup, or in the background of a script, these are ignored, and so would be by
# the commands that tests start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

import hypothesis
import jax
import memory_maps
import pytest

# This process, which compiles for minutes, keeps out of the launchers' cache: jaxlib
# 0.10.2 has crashed in it while it wrote an executable down.
jax.config.update("jax_enable_compilation_cache", False)

# The same examples on every run and machine; compilation makes first calls slow.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None)
hypothesis.settings.load_profile("house")


def pytest_collection_modifyitems(items):
  """Slow ones first: with several workers, none is left with one at the end."""
  items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps():
  """Drops compiled programs after a module, if there are very many."""
  yield
  memory_maps.keep_few()


@pytest.fixture
def key():
  """A typed key; tests derive their streams from it."""
  return jax.random.key(0)


@pytest.fixture
def x64():
  """Runs the test in double precision, and leaves the other tests alone."""
  with jax.enable_x64(True):
    yield


@pytest.fixture
def quick_compile():
  """Compiles without optimizing: for tests whose time is all compilation."""
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)


# The package as `pip install` gives it.

ROOT = pathlib.Path(__file__).parent.parent
PARTS = ("infusion_jax", "experiments", "configs")
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
  """Built from a copy: building leaves files beside the sources."""
  pytest.importorskip("setuptools", "70.1")
  folder = tmp_path_factory.mktemp("wheel")
  copy = folder / "copy"
  ignored = shutil.ignore_patterns("__pycache__")
  for part in PARTS:
    shutil.copytree(ROOT / part, copy / part, ignore=ignored)
  for name in FILES:
    shutil.copy(ROOT / name, copy / name)
  options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(folder)]
  _pip("wheel", *options, str(copy))
  (built,) = folder.glob("*.whl")
  return built


@pytest.fixture(scope="session")
def site(wheel, tmp_path_factory):
  """A folder that the wheel is installed in, and nothing else."""
  folder = tmp_path_factory.mktemp("site")
  _pip("install", "--no-deps", "--no-index", "-q", "--target", str(folder), str(wheel))
  return folder


def _pip(*arguments: str) -> None:
  command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stdout + done.stderr
