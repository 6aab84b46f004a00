"""experiments.sweep as a user runs it: one table, whatever happens on the way."""

import csv
import pathlib
import signal

import numpy as np
import pytest
import runs
from launching import WRITING, launch, start, tree, wait_for

import infusion_jax
from infusion_jax.storage import files
from infusion_jax.sweep import conductor, overrides, result_files
from infusion_jax.sweep import tables as sweep_report
from infusion_jax.training import signals

_SWEEP = """
import ml_collections
from configs import base
from infusion_jax.sweep.overrides import sweep

def get_config(rates="0.05,0.1,0.2"):
  config = ml_collections.ConfigDict()
  config.base = base.get_config()
  config.base.data.name = "{name}"
  config.base.data.max_images = {images}
  config.base.model.hidden_sizes = (8,)
  config.base.chain.num_steps = 3
  config.base.train.batch_size = 16
  config.base.train.num_epochs = {epochs}
  config.runs = sweep("chain.omega", [float(rate) for rate in rates.split(",")])
  return config
"""
_SHORT = ("--num_images=10", "--num_chains=2", "--num_samples=3", "--noprogress")


def write_config(path, name="tiny", images=0, epochs=2):
  path.write_text(_SWEEP.format(name=name, images=images, epochs=epochs))
  return path


@pytest.fixture
def tiny_data(monkeypatch):
  monkeypatch.setattr(conductor, "load_dataset", lambda data: runs.dataset())


@pytest.fixture
def config(tmp_path, tiny_data):
  return write_config(tmp_path / "small.py")


def table(workdir):
  """What does not tell when and where it was made."""
  content = files.read_json(workdir / "sweep.json")
  del content["provenance"]
  return content, *((workdir / name).read_text() for name in ("sweep.csv", "sweep.md"))


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(config, tmp_path):
  workdir = tmp_path / "sweep"
  result = launch("sweep", f"--config={config}", f"--workdir={workdir}", "--dry_run")
  assert result.returncode == 0, result.stderr
  assert "groups to train: 1," in result.stdout
  assert "|   3 |    3 |" in result.stdout
  assert not workdir.exists()


def test_a_table_of_runs(config, tmp_path):
  workdir = tmp_path / "sweep"
  command = (f"--config={config}", f"--workdir={workdir}", *_SHORT)
  result = launch("sweep", *command)
  assert result.returncode == 0, result.stderr
  content, text, markdown = table(workdir)
  rows = list(csv.DictReader(text.splitlines()))
  assert [row["rate"] for row in rows] == ["0.05", "0.1", "0.2"]
  assert {row["status"] for row in rows} == {"finished"}
  assert [row["chain.omega"] for row in rows] == ["0.05", "0.1", "0.2"]
  for row, run in zip(rows, content["runs"], strict=True):
    assert float(row["best_bound"]) == run["best_bound"]
    assert max(run["curve"]["validation_bound"]) == run["best_bound"]
    assert run["curve"]["epoch"] == [1, 2]
    assert f"{run['test_bound']:.2f}" in markdown
    model = infusion_jax.load(workdir / run["weights"])
    assert model.config.chain.omega == float(row["rate"])
  assert "T = 3, increasing rate: 0" in result.stdout and " > 0" in result.stdout
  for name in ("figure_a1.png", "samples_T_3_increasing_rate.png"):
    assert (workdir / name).stat().st_size > 1000

  # The same again has nothing to do; it only notes that it was launched.
  before = tree(workdir / "groups") | tree(workdir / "runs")
  again = launch("sweep", *command)
  assert again.returncode == 0 and "groups to train: 0," in again.stdout
  assert tree(workdir / "groups") | tree(workdir / "runs") == before
  assert table(workdir) == (content, text, markdown)

  # More rates are added to it.
  command = (f"--config={config}:0.1,0.15,0.25,0.3", *command[1:])
  dry = launch("sweep", *command, "--dry_run").stdout
  assert "finished" in dry and "minutes at the pace so far" in dry
  more = launch("sweep", *command)
  assert more.returncode == 0, more.stderr
  rows = list(csv.DictReader((workdir / "sweep.csv").read_text().splitlines()))
  rates = ["0.05", "0.1", "0.15", "0.2", "0.25", "0.3"]
  assert [row["rate"] for row in rows] == rates
  assert before.items() <= (tree(workdir / "groups") | tree(workdir / "runs")).items()


def test_a_stopped_sweep_says_how_to_resume(config, tmp_path, monkeypatch):
  def stopped(job):
    raise signals.Stopped("stopped at step 7 of group g, which is saved")

  monkeypatch.setattr(conductor, "run", stopped)
  workdir = tmp_path / "sweep"
  result = launch("sweep", f"--config={config}", f"--workdir={workdir}", *_SHORT)
  assert result.returncode == 75
  assert "step 7 of group g, which is saved; the same command resumes" in result.stderr


def row(rate, bound, **changes):
  config = overrides.apply(
    runs.config(),
    {
      "data.name": "mnist",
      "chain.num_steps": 1,
      "chain.alpha0": rate,
      "chain.omega": 0.0,
    },
  )
  values = {
    "config": config,
    "run": overrides.identity(config),
    "place": overrides.place(config),
    "status": "finished",
    "epochs": 3,
    "best_bound": bound,
    "best_epoch": 3,
    "test_bound": bound,
    "standard_error": 1.0,
    "published": overrides.published_bound(config),
    "curve": ([1, 2, 3], [1.0, 2.0, 3.0]),
    "samples": np.zeros((2, 4, 4, 1)),
  }
  return sweep_report.Row(**{**values, **changes})


@pytest.mark.parametrize(
  ("bounds", "line"),
  [
    ([1.0, 3.0, 2.0], "0.3 > 0.4 > 0.2 (by test bound); best 0.3, as published"),
    ([3.0, 2.0, 1.0], "best 0.2, published best 0.3 (its neighbour)"),
    ([1.0, 2.0, 3.0], "best 0.4, published best 0.3 (its neighbour)"),
  ],
)
def test_the_order_of_the_rates(bounds, line):
  rows = [row(rate, bound) for rate, bound in zip([0.2, 0.3, 0.4], bounds, strict=True)]
  assert line in str(sweep_report.order("T = 1", rows))


def test_the_order_before_all_are_tested():
  rows = [row(0.1, 2.0, test_bound=None), row(0.3, 1.0), row(0.4, None)]
  line = str(sweep_report.order("T = 1", rows))
  assert line == (
    "T = 1: 0.1 > 0.3 (by validation bound);"
    " best 0.1, published best 0.3 (its neighbour)"
  )


def test_a_table_with_runs_that_are_not_finished(tmp_path):
  nothing = {
    "status": "not finished",
    "epochs": None,
    "best_bound": None,
    "best_epoch": None,
    "test_bound": None,
    "standard_error": None,
    "samples": None,
  }
  rows = [row(0.3, 1200.0), row(0.4, None, **nothing, curve=([], []))]
  text = sweep_report.panel_table(rows)
  assert "1209.39" in text and "-9.39" in text and "not finished" in text
  assert result_files.figure({"T = 1": rows}) is not None
  assert result_files.figure({"T = 1": rows[1:]}) is None
  assert result_files.sample_rows(rows[1:]) is None
  lines = sweep_report.table_csv(rows).splitlines()
  assert len(lines) == 3 and lines[2].count(",") == lines[0].count(",")


@pytest.mark.slow
@pytest.mark.long
def test_killed_and_launched_again_it_gives_the_same_table(tmp_path):
  """As `test_faults.test_sweep` shows within a process, by a kill from outside."""
  config = write_config(tmp_path / "small.py", "digits", images=64, epochs=16)
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  command = [f"--config={config}", *_SHORT]
  process = start("sweep", *command, f"--workdir={undisturbed}", **WRITING)
  out, err = process.communicate(timeout=900)
  assert process.returncode == 0, out + err

  def saved():
    return any(pathlib.Path(killed).glob("groups/*/checkpoints/*0/training"))

  process = start("sweep", *command, f"--workdir={killed}")
  wait_for(saved, process, 600)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  process = start("sweep", *command, f"--workdir={killed}")
  out, err = process.communicate(timeout=900)
  assert process.returncode == 0, out + err
  assert table(killed) == table(undisturbed)


@pytest.mark.slow
def test_groups_as_jobs_on_two_workers_of_ray(tmp_path):
  pytest.importorskip("ray", reason="Ray is not installed (pip install ray)")
  config = write_config(tmp_path / "small.py", "digits", images=64, epochs=2)
  text = config.read_text().replace(
    "return config", "config.runs += _MORE\n  return config"
  )
  more = '_MORE = [{"chain.num_steps": 1, "chain.omega": 0.0, "chain.alpha0": 0.3}]\n'
  config.write_text(more + text)
  tables = []
  for engine in ("here", "ray"):
    workdir = tmp_path / engine
    flags = f"--config={config}", f"--workdir={workdir}", f"--engine={engine}"
    process = start("sweep", *flags, *_SHORT)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, out + err
    tables.append(table(workdir))
  assert tables[0] == tables[1]
