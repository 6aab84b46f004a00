"""`model.dtype = auto`: chosen once by time, recorded, kept on resuming."""

import dataclasses

import pytest
import runs

from infusion_jax.errors import UserError
from infusion_jax.sweep import conductor
from infusion_jax.training import loop, precision, workdir


def config(dtype="auto", **train):
  found = runs.config(num_epochs=1, **train)
  return dataclasses.replace(found, model=dataclasses.replace(found.model, dtype=dtype))


def timed(monkeypatch, **seconds):
  """Training steps take so many seconds by type; without any, none may be timed."""

  def measure(config, recipe, dataset):
    assert seconds, "a type was measured again"
    return seconds[config.model.dtype]

  monkeypatch.setattr(precision, "_seconds_a_step", measure)


def fit(folder, dtype="auto", **train):
  loop.fit(config(dtype, **train), runs.dataset(), folder, progress=False)


@pytest.mark.parametrize(
  ("full", "half", "name"),
  [(2.0, 1.0, "bfloat16"), (1.0, 2.0, "float32"), (1.04, 1.0, "float32")],
)
def test_the_faster_type_is_chosen_and_small_gains_are_none(full, half, name):
  assert precision.chosen({"float32": full, "bfloat16": half}) == name


def test_the_choice_is_recorded_said_and_kept(tmp_path, monkeypatch, capsys):
  timed(monkeypatch, float32=2e-3, bfloat16=1e-3)
  fit(tmp_path)
  assert workdir.read_config(tmp_path) == config("bfloat16")
  said = capsys.readouterr().err.splitlines()[0].split("; ")[-1]
  assert said.endswith(
    "bfloat16 of auto (float32 2 ms a step and bfloat16 1 ms a step)"
  )
  timed(monkeypatch)
  found = precision.decided(config(), runs.dataset(), tmp_path)
  assert found == (config("bfloat16"), "bfloat16, as it began")
  workdir.check(tmp_path, config("bfloat16"))
  with pytest.raises(UserError, match=r"model\.dtype = 'bfloat16', not 'float32'"):
    fit(tmp_path, "float32")


def test_shapes_need_no_choice(monkeypatch):
  timed(monkeypatch)
  assert precision.untimed(config()) == config("float32")
  assert precision.untimed(config("bfloat16")) == config("bfloat16")


@pytest.mark.parametrize("stream", ["never", "always"])
def test_measuring_leaves_no_trace_in_the_run(stream, tmp_path, monkeypatch):
  monkeypatch.setattr(precision, "_SECONDS", 0.01)
  chosen = config()
  chosen = dataclasses.replace(
    chosen, data=dataclasses.replace(chosen.data, stream=stream)
  )
  loop.fit(chosen, runs.dataset(), tmp_path / "auto", progress=False)
  fit(tmp_path / "named", workdir.read_config(tmp_path / "auto").model.dtype)
  assert runs.rows(tmp_path / "auto") == runs.rows(tmp_path / "named")


def test_what_has_no_types_is_not_measured(tmp_path, monkeypatch):
  timed(monkeypatch)
  found = precision.decided(config(method="vae"), runs.dataset(), tmp_path)
  assert found.config == config("float32", method="vae")
  assert found.fact == "float32, the only type of this network"


def test_a_folder_of_something_else_is_refused_before_measuring(tmp_path, monkeypatch):
  timed(monkeypatch)
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match="is not empty"):
    fit(tmp_path)


def test_a_sweep_needs_a_type():
  with pytest.raises(UserError, match="a sweep needs one of float32, bfloat16"):
    conductor.check([config()])
