"""Fixtures and settings shared by all tests."""

import hypothesis
import jax
import pytest

# The same examples on every run and machine; compilation makes first calls slow.
hypothesis.settings.register_profile("house", derandomize=True, deadline=None)
hypothesis.settings.load_profile("house")


@pytest.fixture
def key():
  """A typed key; tests derive their streams from it."""
  return jax.random.key(0)


@pytest.fixture
def x64():
  """Runs the test in double precision, and leaves the other tests alone."""
  with jax.enable_x64(True):
    yield
