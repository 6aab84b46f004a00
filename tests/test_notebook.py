"""The notebook: clean as it is kept, and running from top to bottom."""

import json
import os

import pytest
from launching import ROOT

NOTEBOOK = ROOT / "notebooks/sample_from_checkpoint.ipynb"


def test_it_is_kept_without_outputs():
  cells = json.loads(NOTEBOOK.read_text())["cells"]
  code = [cell for cell in cells if cell["cell_type"] == "code"]
  assert len(code) >= 8
  assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(monkeypatch):
  nbformat = pytest.importorskip("nbformat", reason="needs the notebook extra")
  nbclient = pytest.importorskip("nbclient", reason="needs the notebook extra")
  pytest.importorskip("ipykernel", reason="needs the notebook extra")
  # The kernel runs this checkout, installed or not.
  path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
  monkeypatch.setenv("PYTHONPATH", path)
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  nbformat.validate(notebook)
  nbclient.NotebookClient(
    notebook,
    timeout=300,
    kernel_name="python3",
    resources={"metadata": {"path": str(NOTEBOOK.parent)}},
  ).execute()
  outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
  kinds = [kind for output in outputs for kind in output.get("data", {})]
  assert kinds.count("image/png") == 7
  assert kinds.count("image/gif") == 1
  text = "".join(output.get("text", "") for output in outputs)
  assert "(64, 8, 8, 1) from" in text
  assert "lower bound" in text
  assert "Cloning" not in text
