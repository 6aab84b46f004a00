"""The files of a run: checkpoints, metrics, configuration."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.storage.checkpoints import FORMAT_VERSION, Checkpoints
from infusion_jax.training import metrics_log, workdir


@pytest.fixture
def tree():
  return {"a": jnp.arange(6.0).reshape(2, 3), "b": {"c": jnp.asarray(3, jnp.int32)}}


def like(tree):
  return jax.eval_shape(lambda: tree)


def save(folder, tree, steps, **options):
  checkpoints = Checkpoints(folder, write=True, **options)
  for step in steps:
    checkpoints.save(step, tree, {"x": tree["a"] + step}, {"epoch": step})
  checkpoints.close()


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, tree):
  save(tmp_path, tree, [3])
  checkpoints = Checkpoints(tmp_path)
  assert checkpoints.steps() == [3]
  assert checkpoints.about(3)["epoch"] == 3
  assert checkpoints.about(3)["format_version"] == FORMAT_VERSION
  jax.tree.map(np.testing.assert_array_equal, checkpoints.model(3, like(tree)), tree)
  training = checkpoints.training(3, {"x": like(tree)["a"]})
  np.testing.assert_array_equal(training["x"], tree["a"] + 3)


def test_the_newest_two_and_the_periodic_ones_stay(tmp_path, tree):
  save(tmp_path, tree, [1, 2, 3, 4, 5, 6, 7], keep_period=3)
  assert Checkpoints(tmp_path).steps() == [3, 6, 7]


def test_reading_writes_nothing(tmp_path, tree):
  save(tmp_path, tree, [1])
  before = sorted(p for p in tmp_path.rglob("*"))
  checkpoints = Checkpoints(tmp_path)
  checkpoints.model(1, like(tree))
  checkpoints.close()
  assert sorted(p for p in tmp_path.rglob("*")) == before
  assert Checkpoints(tmp_path / "none").steps() == []
  assert not (tmp_path / "none").exists()


def test_what_a_kill_left_behind_is_no_checkpoint(tmp_path, tree):
  save(tmp_path, tree, [1])
  left = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  left.mkdir()
  (left / "half").write_text("written")
  assert Checkpoints(tmp_path).steps() == [1]
  save(tmp_path, tree, [2])
  assert Checkpoints(tmp_path).steps() == [1, 2]
  assert not left.exists()


def test_another_models_checkpoint_is_refused(tmp_path, tree):
  save(tmp_path, tree, [1])
  wrong = {"a": jax.ShapeDtypeStruct((5, 3), jnp.float32), "b": like(tree)["b"]}
  with pytest.raises(UserError, match=r"checkpoints/1 .*damaged or of another model"):
    Checkpoints(tmp_path).model(1, wrong)


def test_a_format_of_the_future_is_refused(tmp_path, tree, monkeypatch):
  monkeypatch.setattr("infusion_jax.storage.checkpoints.FORMAT_VERSION", 99)
  save(tmp_path, tree, [1])
  monkeypatch.undo()
  with pytest.raises(UserError, match=f"format version 99; .* 1 to {FORMAT_VERSION}"):
    Checkpoints(tmp_path).about(1)


def test_metrics_resume_after_the_checkpoints_step(tmp_path):
  writer = metrics_log.MetricsWriter(tmp_path, 0)
  for step in (1, 2, 3):
    writer.write(step, step, "train", {"loss": 0.1 * step})
  writer.close()
  writer = metrics_log.MetricsWriter(tmp_path, 2)
  writer.write(3, 3, "train", {"loss": 7.0})
  writer.close()
  rows = metrics_log.read(tmp_path / metrics_log.FILE)
  assert [(r["step"], r["loss"]) for r in rows] == [(1, 0.1), (2, 0.2), (3, 7.0)]


def test_a_torn_last_line_is_dropped(tmp_path):
  (tmp_path / metrics_log.FILE).write_text('{"step": 1}\n{"step": 2, "lo')
  assert metrics_log.read(tmp_path / metrics_log.FILE) == [{"step": 1}]


def test_a_workdir_is_claimed_once(tmp_path):
  folder = tmp_path / "new" / "run"
  workdir.claim(folder, runs.config())
  assert workdir.read_config(folder) == runs.config()
  workdir.claim(folder, runs.config(num_epochs=9))
  assert workdir.read_config(folder).train.num_epochs == 9
  with pytest.raises(UserError, match=r"train.seed = 0, not 1"):
    workdir.claim(folder, runs.config(seed=1))
  assert len((folder / "launches.jsonl").read_text().splitlines()) == 2


def test_the_length_of_a_decaying_run_is_fixed(tmp_path):
  workdir.claim(tmp_path / "run", runs.config(decay="cosine"))
  with pytest.raises(UserError, match=r"train.num_epochs = 3, not 9"):
    workdir.claim(tmp_path / "run", runs.config(decay="cosine", num_epochs=9))


@pytest.mark.parametrize(
  ("content", "message"),
  [(None, "does not exist"), ("{", "cannot be read as JSON"), ('{"a": 1}', "config.a")],
)
def test_a_missing_or_damaged_configuration_is_told(tmp_path, content, message):
  if content is not None:
    (tmp_path / "config.json").write_text(content)
  with pytest.raises(UserError, match=message):
    workdir.read_config(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / "a.json"
  files.write_json(path, {"x": 1})
  with pytest.raises(RuntimeError), files.replacing(path) as stream:
    stream.write(b"half")
    raise RuntimeError
  assert files.read_json(path) == {"x": 1}
  assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
  assert path.stat().st_mode & 0o777 == _ordinary(tmp_path)


def _ordinary(folder: pathlib.Path) -> int:
  (folder / "plain").write_text("")
  return (folder / "plain").stat().st_mode & 0o777
