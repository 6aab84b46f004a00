"""The examples of docs/extending.md, each run as its first lines say."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from launching import DIGITS, ROOT, launch
from PIL import Image

from infusion_jax import evaluation
from infusion_jax.networks import user_code

EXAMPLES = ROOT / "examples"
SMALL = (
  "--noprogress",
  "--config.train.num_epochs=1",
  "--config.train.monitor_images=64",
  "--config.train.preview_every=0",
  "--config.data.max_images=100",
  "--config.model.hidden_sizes=(8,)",
)

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """Commands of the examples name them from the checkout's root."""
  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(user_code, "_FILES", {})
  yield tmp_path
  evaluation.METRICS.pop("ink", None)


def test_every_example_is_run_here_and_described():
  names = {path.name for path in EXAMPLES.glob("*.py")}
  ours, page = map(
    str, ((ROOT / "tests/test_examples.py").read_text(), _text("docs/extending.md"))
  )
  assert names
  for name in names:
    assert ours.count(name) >= 1 and name in page, name


def _text(path):
  return (ROOT / path).read_text()


def test_own_transition(tmp_path):
  out = tmp_path / "digits.png"
  done = subprocess.run(
    [sys.executable, EXAMPLES / "own_transition.py", out],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "lower bound -2" in done.stdout
  picture = np.asarray(Image.open(out).convert("L"))
  assert picture.std() > 50  # digits in white on black, not grey


def test_own_network_and_own_metric(elsewhere):
  workdir = elsewhere / "own"
  name = "--config.model.name=examples/own_network.py:TimeMLP"
  trained = launch("train", "--config=digits", f"--workdir={workdir}", name, *SMALL)
  assert trained.returncode == 0, trained.stderr
  user_code._FILES.clear()
  refused = launch("sample", f"--workdir={workdir}")
  assert refused.returncode == 2
  assert "--code=examples/own_network.py" in refused.stderr
  code = "--code=examples/own_network.py,examples/own_metric.py"
  drawn = launch("sample", f"--workdir={workdir}", code, "--seeds=0-3")
  assert drawn.returncode == 0, drawn.stderr
  measure = ("evaluate", f"--workdir={workdir}", code, "--metrics=ink")
  measured = launch(*measure, "--num_samples=20", "--noprogress")
  assert measured.returncode == 0, measured.stderr
  row = json.loads((workdir / "evaluation.json").read_text())["metrics"]["ink"]
  assert 0 < row["value"] < 1
  # The test images' mean pixel on the scale of the model, noise included.
  assert row["details"]["real_images"] == pytest.approx(0.32, abs=0.02)
  assert "real images 0.3" in measured.stdout


def test_a_metric_is_measured_again_when_its_file_has_changed(elsewhere):
  own = elsewhere / "metric.py"
  text = (EXAMPLES / "own_metric.py").read_text()
  workdir = elsewhere / "digits"
  exported = launch("export", f"--workdir={DIGITS}", f"--out={workdir}")
  assert exported.returncode == 0, exported.stderr

  def measured():
    own.write_text(text)
    flags = ("--metrics=ink", "--num_samples=4", "--noprogress", "--noreferences")
    done = launch("evaluate", f"--workdir={workdir}", f"--code={own}", *flags)
    assert done.returncode == 0, done.stderr
    return json.loads((workdir / "evaluation.json").read_text())["metrics"]["ink"]

  first, again = measured(), measured()
  assert first["provenance"] == again["provenance"]
  text = text.replace("value=float(inks.mean())", "value=-1.0")
  assert measured()["value"] == -1.0


def test_own_schedule(elsewhere):
  workdir = elsewhere / "cosine"
  config = f"--config={EXAMPLES / 'own_schedule.py'}"
  trained = launch("train", config, f"--workdir={workdir}", *SMALL)
  assert trained.returncode == 0, trained.stderr
  rates = json.loads((workdir / "config.json").read_text())["chain"]["rates"]
  assert rates == sorted(rates) and rates[0] == 0 and rates[-1] == 0.45
  spec = importlib.util.spec_from_file_location("own", EXAMPLES / "own_schedule.py")
  own = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(own)
  np.testing.assert_allclose(own.cosine(3, 1.0), [0, 0.5, 1])
