import os

import jax
import pytest

from infusion_jax import provenance


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about processors")
def test_a_processor_is_named_with_its_cores():
  kind, _, rest = provenance.device().partition(": ")
  name, _, cores = rest.rpartition(", ")
  assert kind == "cpu"
  assert name not in ("", "cpu")
  assert cores == f"{os.cpu_count()} cores"
