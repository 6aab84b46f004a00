"""Fixtures and settings shared by all tests."""

import atexit
import os
import shutil
import signal
import tempfile

# Nearly all the time of small tests is compilation: little of it is optimized, and
# launchers share what they compiled. Set before JAX is imported, and inherited by
# the launchers that tests start.
os.environ["XLA_FLAGS"] = (
  os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
)
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
