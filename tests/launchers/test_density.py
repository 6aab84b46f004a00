"""experiments.density, and the other commands on a model of points."""

import pytest
from launching import DIGITS, launch
from PIL import Image


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A barely trained model of points."""
  folder = tmp_path_factory.mktemp("points") / "run"
  result = launch(
    "train",
    "--config=configs/two_d.py:rings",
    f"--workdir={folder}",
    "--noprogress",
    "--config.model.hidden_sizes=(8,)",
    "--config.chain.num_steps=3",
    "--config.data.max_images=500",
    "--config.train.batch_size=100",
    "--config.train.num_epochs=1",
  )
  assert result.returncode == 0, result.stderr
  return folder


def test_pictures_and_the_exact_likelihood(workdir, tmp_path):
  out = tmp_path / "x.png"
  result = launch("density", f"--workdir={workdir}", f"--out={out}")
  assert result.returncode == 0, result.stderr
  assert "nats per point (100 test points" in result.stdout
  with Image.open(out) as picture:
    assert picture.width > 3 * 256
  with Image.open(tmp_path / "x_steps.png") as steps:
    assert steps.width > 4 * 128 and steps.height > 2 * 128


def test_points_are_evaluated_sampled_and_reported(workdir, tmp_path):
  result = launch(
    "evaluate",
    f"--workdir={workdir}",
    "--metrics=exact,ais",
    *("--num_images=4", "--ais_images=4", "--temperatures=40", "--noprogress"),
    "--noreferences",
  )
  assert result.returncode == 0, result.stderr
  exact, annealed = (
    float(row.split("|")[2])
    for row in result.stdout.splitlines()
    if row.startswith(("| exact", "| ais"))
  )
  # The same points with the same noise, so that they differ by the error of annealing.
  assert abs(exact - annealed) < 0.1
  out = tmp_path / "s.png"
  assert launch("sample", f"--workdir={workdir}", f"--out={out}").returncode == 0
  with Image.open(out) as picture:
    assert picture.size[0] >= 512
  assert launch("report", f"--workdir={workdir}").returncode == 0
  assert "numerical integration" in (workdir / "report.html").read_text()
  assert list((workdir / "samples").glob("*_chains.png"))


def test_pictures_are_refused():
  result = launch("density", f"--workdir={DIGITS}")
  assert result.returncode == 2
  assert "two numbers" in result.stderr
