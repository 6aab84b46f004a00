"""Where results come from: device and commit."""

import os
import shutil
import subprocess

import jax
import pytest

from infusion_jax.storage import provenance


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about processors")
def test_a_processor_is_named_with_its_cores():
  kind, _, rest = provenance.device().partition(": ")
  name, _, cores = rest.rpartition(", ")
  assert kind == "cpu"
  assert name not in ("", "cpu")
  assert cores == f"{os.cpu_count()} cores"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_an_edited_program_is_told_from_renewed_results(tmp_path, monkeypatch):
  package, results = tmp_path / "infusion_jax", tmp_path / "results"
  package.mkdir()
  results.mkdir()
  module, result = package / "provenance.py", results / "table.json"
  module.write_text("")
  result.write_text("1")
  for command in (
    ["init"],
    ["add", "."],
    ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "first"],
  ):
    subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)
  monkeypatch.setattr(provenance, "__file__", str(module))
  clean = provenance.commit()
  assert len(clean) == 12
  result.write_text("2")
  assert provenance.commit() == clean
  module.write_text("edited = True")
  assert provenance.commit() == clean + "+changes"


def test_outside_a_checkout_the_environment_names_the_commit(tmp_path, monkeypatch):
  monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
  monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
  monkeypatch.delenv(provenance.COMMIT_VARIABLE, raising=False)
  assert provenance.commit() == "unknown"
  monkeypatch.setenv(provenance.COMMIT_VARIABLE, "0123456789ab")
  assert provenance.commit() == "0123456789ab"


def test_what_is_shared_names_no_folder_of_the_machine():
  shared = provenance.without_folders(
    {
      "command": "python -m x --workdir=/home/me/runs/mnist --out='/a b' --rate=1/4",
      "path": "/data/mnist",
      "relative": "runs/digits",
      "list": ["/x/y.npz", 3, None],
      "units": "images/s and https://example.org/page",
    }
  )
  assert shared == {
    "command": "python -m x --workdir=mnist --out='a b' --rate=1/4",
    "path": "mnist",
    "relative": "runs/digits",
    "list": ["y.npz", 3, None],
    "units": "images/s and https://example.org/page",
  }
