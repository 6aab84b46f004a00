"""Checkpoints that are not what was written: told, gone around, never believed."""

import json
import logging
import pathlib
import pickle
import shutil

import jax
import numpy as np
import pytest
import runs
from launching import launch, tree
from reliability import bad_files

import infusion_jax
from infusion_jax.errors import UserError
from infusion_jax.storage import checkpoints
from infusion_jax.training import loop


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
  """A run of four epochs with the checkpoints of the last two."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  loop.fit(runs.config(num_epochs=4), runs.dataset(), folder, progress=False)
  assert steps(folder) == [12, 16]
  return folder


@pytest.fixture
def copied(trained, tmp_path):
  shutil.copytree(trained, tmp_path / "run")
  return tmp_path / "run"


def steps(folder: pathlib.Path) -> list[int]:
  return checkpoints.Checkpoints(folder).steps()


def files_of(folder: pathlib.Path, step: int = 16) -> list[pathlib.Path]:
  place = folder / "checkpoints" / str(step)
  return sorted(path for path in place.rglob("*") if path.is_file())


def leaves(model) -> list[np.ndarray]:
  return [np.asarray(leaf) for leaf in jax.tree.leaves(model.weights)]


def same(a, b) -> bool:
  return all(map(np.array_equal, leaves(a), leaves(b)))


def flip(path: pathlib.Path, count: int = 1) -> None:
  data = bytearray(path.read_bytes())
  random = np.random.default_rng(len(data))
  for place in random.integers(0, max(len(data), 1), count) if data else ():
    data[place] ^= 1 << int(random.integers(8))
  path.write_bytes(bytes(data))


def truncate(path: pathlib.Path) -> None:
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])


def empty(path: pathlib.Path) -> None:
  path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, truncate, empty, pathlib.Path.unlink])
def test_damage_to_any_file_gives_the_right_weights_or_the_older_ones(
  trained, tmp_path, damage, caplog
):
  whole = infusion_jax.load(trained)
  older = infusion_jax.load(trained / "checkpoints" / "12")
  assert not same(whole, older)
  fell_back = 0
  for number in range(len(files_of(trained))):
    folder = tmp_path / str(number) / "run"
    shutil.copytree(trained, folder)
    damage(files_of(folder)[number])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
      found = infusion_jax.load(folder)
    assert found.step in (12, 16)
    assert same(found, whole if found.step == 16 else older)
    fell_back += found.step == 12
    told = "the checkpoint of step 12 takes its place" in caplog.text
    assert told == (found.step == 12)
  # The arrays, their index and the description, at the least.
  assert fell_back >= 3


def test_training_goes_on_from_the_newest_intact_checkpoint(trained, copied, caplog):
  large = max(files_of(copied), key=lambda path: path.stat().st_size)
  truncate(large)
  with caplog.at_level(logging.WARNING):
    loop.fit(runs.config(num_epochs=4), runs.dataset(), copied, progress=False)
  assert "step 12 takes its place" in caplog.text
  assert same(infusion_jax.load(copied), infusion_jax.load(trained))
  assert runs.rows(copied) == runs.rows(trained)
  # What was damaged is kept, out of the way.
  assert (copied / "checkpoints_damaged" / "16").is_dir()
  assert steps(copied) == [12, 16]


@pytest.mark.parametrize("name", ["training", "model", "about"])
def test_a_flip_in_any_item_is_found_before_training_goes_on(trained, copied, name):
  part = [path for path in files_of(copied) if f"/16/{name}/" in str(path)]
  flip(max(part, key=lambda path: path.stat().st_size), count=20)
  loop.fit(runs.config(num_epochs=4), runs.dataset(), copied, progress=False)
  assert same(infusion_jax.load(copied), infusion_jax.load(trained))
  assert (copied / "checkpoints_damaged" / "16").is_dir()


def test_a_changed_description_is_found(copied):
  path = copied / "checkpoints" / "16" / "about" / "metadata"
  about = json.loads(path.read_text())
  about["config"]["chain"]["omega"] = 0.2
  path.write_text(json.dumps(about))
  assert infusion_jax.load(copied).step == 12
  with pytest.raises(UserError, match=r"checkpoints/16 is damaged: .* description"):
    infusion_jax.load(copied / "checkpoints" / "16")


def test_if_nothing_is_intact_it_is_told_and_left_alone(copied):
  for step in (12, 16):
    for path in files_of(copied, step):
      truncate(path)
  before = tree(copied / "checkpoints")
  with pytest.raises(UserError, match=r"checkpoints/16 cannot be read: it is damaged"):
    infusion_jax.load(copied)
  with pytest.raises(UserError, match=r"checkpoints/16 cannot be read: it is damaged"):
    loop.fit(runs.config(num_epochs=6), runs.dataset(), copied, progress=False)
  assert tree(copied / "checkpoints") == before


def test_commands_fall_back_and_say_so(place, tmp_path):
  shutil.copytree(place / "run", tmp_path / "run")
  newest = max(int(p.name) for p in (tmp_path / "run/checkpoints").iterdir())
  for path in files_of(tmp_path / "run", newest):
    truncate(path)
  out = tmp_path / "x.npz"
  result = launch("sample", f"--workdir={tmp_path}/run", "--seeds=0", f"--out={out}")
  assert result.returncode == 0, result.stderr
  result = launch(
    "evaluate",
    f"--workdir={tmp_path}/run",
    "--num_images=5",
    "--num_chains=2",
    "--noprogress",
  )
  assert result.returncode == 0, result.stderr


def test_a_checkpoint_from_a_stranger_runs_no_code(copied, tmp_path):
  trap = tmp_path / "trap"
  code = pickle.dumps(bad_files.Trap(trap))
  for folder in ("model", "training", "about", ""):
    place = copied / "checkpoints" / "16" / folder
    for name in ("checkpoint", "data.pkl", "metadata.pkl", "_pickle", "0"):
      (place / name).write_bytes(code)
  assert infusion_jax.load(copied).step in (12, 16)
  for path in files_of(copied):
    path.write_bytes(code)
  assert infusion_jax.load(copied).step == 12
  assert not trap.exists()


def test_a_model_larger_than_its_files_is_refused_before_memory_is_taken(copied):
  huge = jax.ShapeDtypeStruct((1 << 20, 1 << 20), np.float32)
  found = checkpoints.Checkpoints(copied)
  with pytest.raises(UserError, match=r"4,398,046,511,104 bytes cannot be in files of"):
    found.model(16, {"weights": huge})
