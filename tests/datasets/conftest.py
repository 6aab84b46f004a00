import os
import pathlib

import pytest


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """The folder with real MNIST files, where a machine has one."""
  folder = os.environ.get("INFUSION_JAX_DATA")
  if not folder:
    pytest.skip("INFUSION_JAX_DATA does not name a folder with mnist/ in it")
  return pathlib.Path(folder)
