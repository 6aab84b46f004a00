"""What watches a run beside its metrics file: here on a stand-in of wandb."""

import sys
import types

import pytest
import runs

from infusion_jax.errors import UserError
from infusion_jax.training import loop, metrics_log, workdir

pytestmark = pytest.mark.usefixtures("quick_compile")


class StandIn(types.ModuleType):
  """As much of wandb as is used; a run is what was said to it."""

  def __init__(self, error=None):
    super().__init__("wandb")
    self.begun, self.rows, self.finished, self.error = [], [], 0, error

  def init(self, **options):
    if self.error:
      raise self.error
    self.begun.append(options)
    return self

  def define_metric(self, name, step_metric):
    assert (name, step_metric) == ("*", "step")

  def log(self, row):
    self.rows.append(row)

  def finish(self):
    self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
  module = StandIn()
  monkeypatch.setitem(sys.modules, "wandb", module)
  return module


def write(folder, *steps):
  """A launch that goes on from the step before the first of these."""
  workdir.claim(folder, runs.config())
  writer = metrics_log.MetricsWriter(folder, steps[0] - 1, watched_by=["wandb"])
  for step in steps:
    writer.write(step, step // 2, "validation", {"bound": -step, "loss": 0.5})
  writer.close()


def test_wandb_gets_every_row_and_goes_on_in_the_same_run(wandb, tmp_path):
  write(tmp_path / "run", 2, 4)
  write(tmp_path / "run", 4, 6)
  write(tmp_path / "other", 2)
  first, again, other = wandb.begun
  assert first["id"] == again["id"] != other["id"]
  assert first["resume"] == "allow"
  assert first["dir"] == str(tmp_path / "run")
  assert first["config"]["train"]["batch_size"] == 16
  assert wandb.finished == 3
  assert [row["step"] for row in wandb.rows] == [2, 4, 4, 6, 2]
  row = {"validation/bound": -6, "validation/loss": 0.5}
  assert wandb.rows[3] == {"step": 6, "epoch": 3, **row}
  written = metrics_log.read(tmp_path / "run" / "metrics.jsonl")
  assert [row["step"] for row in written] == [2, 4, 6]


def test_a_missing_package_is_told_before_anything_is_trained(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  config, folder = runs.config(num_epochs=1), tmp_path / "run"
  with pytest.raises(UserError, match=r"--wandb needs the package wandb.*\[wandb\]"):
    loop.fit(config, runs.dataset(), folder, progress=False, wandb=True)
  assert not (folder / "metrics.jsonl").read_text()


def test_a_service_that_does_not_begin_is_told(tmp_path, monkeypatch):
  refusing = StandIn(ConnectionError("no route to host"))
  monkeypatch.setitem(sys.modules, "wandb", refusing)
  with pytest.raises(UserError, match="no route to host.*WANDB_MODE=offline"):
    write(tmp_path / "run", 1)
