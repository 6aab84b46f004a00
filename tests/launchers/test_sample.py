"""experiments.sample as a person uses it."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from launching import DIGITS, launch
from PIL import Image

import infusion_jax
from experiments import selection
from infusion_jax import model as models
from infusion_jax.datasets import digits
from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.model import keys_of
from infusion_jax.storage import checkpoints
from infusion_jax.storage import weights as stored
from infusion_jax.views import figures


@pytest.fixture(scope="module")
def model():
  return infusion_jax.load(DIGITS)


@pytest.fixture(scope="module")
def run(tmp_path_factory, model):
  """A run that kept epochs 1, 2 and 3; the first two are of random weights."""
  workdir = tmp_path_factory.mktemp("run")
  train = dataclasses.replace(model.config.train, keep_every=1)
  config = dataclasses.replace(model.config, train=train).to_dict()
  writer = checkpoints.Checkpoints(workdir, keep_period=19, write=True)
  for epoch in (1, 2, 3):
    trained = model if epoch == 3 else models.untrained(model)
    about = {**model.about, "epoch": epoch, "config": config}
    writer.export(19 * epoch, stored.tree_of(trained.weights), about)
  writer.close()
  return workdir


def sample(*arguments, workdir=DIGITS):
  result = launch("sample", f"--workdir={workdir}", *arguments)
  assert result.returncode == 0, result.stderr
  return result


def pixels(path):
  with Image.open(path) as file:
    return np.asarray(file.convert("RGB"))


def arrays(path):
  with np.load(path) as file:
    return dict(file)


# Images by seed.


def test_one_seed_gives_the_image_it_gives_among_others(tmp_path):
  for seeds in ("5", "0-63", "70,5,0-2"):
    sample(f"--seeds={seeds}", f"--out={tmp_path}/{seeds}.npz")
  alone, among, mixed = (
    arrays(tmp_path / f"{seeds}.npz") for seeds in ("5", "0-63", "70,5,0-2")
  )
  np.testing.assert_array_equal(alone["images"][0], among["images"][5])
  np.testing.assert_array_equal(mixed["images"][1], among["images"][5])
  np.testing.assert_array_equal(mixed["images"][2:], among["images"][:3])
  np.testing.assert_array_equal(mixed["seeds"], [70, 5, 0, 1, 2])
  assert among["images"].shape == (64, 8, 8, 1)
  assert among["images"].dtype == np.float32


def test_grid_npz_and_folder_hold_the_same_images(tmp_path, model):
  result = sample("--seeds=0-8", f"--out={tmp_path}/grid.png")
  assert result.stdout == f"wrote 9 images to {tmp_path}/grid.png\n"
  sample("--seeds=0-8", f"--out={tmp_path}/images.npz")
  sample("--seeds=0-8", f"--out={tmp_path}/folder")
  images = arrays(tmp_path / "images.npz")["images"]
  np.testing.assert_array_equal(images, model.sample(jax.random.key(0), 9))
  np.testing.assert_array_equal(pixels(tmp_path / "grid.png"), plots.grid(images))
  names = sorted((tmp_path / "folder").iterdir())
  assert [name.name for name in names] == [f"seed_{i:010d}.png" for i in range(9)]
  for name, image in zip(names, images, strict=True):
    expected = np.broadcast_to(plots.to_uint8(image), (8, 8, 3))
    np.testing.assert_array_equal(pixels(name), expected)


def test_more_steps_draws_and_defaults(tmp_path, model):
  workdir = tmp_path / "digits"
  shutil.copytree(DIGITS, workdir)
  (step,) = (workdir / "checkpoints").iterdir()
  sample("--num_steps=12", workdir=step)  # of a checkpoint, the workdir's picture
  expected = model.sample(jax.random.key(0), 64, num_steps=12)
  np.testing.assert_array_equal(pixels(workdir / "samples.png"), plots.grid(expected))
  drawn = model.sample(jax.random.key(0), 2, mean=False)
  for flag in ("--sample", "--nomean"):
    sample(flag, "--seeds=0-1", f"--out={tmp_path}/{flag}.npz")
    found = arrays(tmp_path / f"{flag}.npz")["images"]
    np.testing.assert_array_equal(found, drawn)


# Chains.


def test_chains_and_animation(tmp_path, model):
  frames = figures.model_chains(model, keys_of(jax.random.key(0), range(3)))
  rows = dataclasses.replace(frames, rows=["seed 0", "seed 1", "seed 2"])
  sample("--chain", "--seeds=0-2", f"--out={tmp_path}/x.png")
  np.testing.assert_array_equal(pixels(tmp_path / "x.png"), rows.strip())
  for flags in (["--gif"], [], ["--chain"]):
    out = tmp_path / f"{len(flags)}.gif"
    sample(*flags, "--seeds=0-2", f"--out={out}")
    assert out.read_bytes() == frames.gif()
  sample("--chain", f"--out={tmp_path}/default.npz")
  assert arrays(tmp_path / "default.npz")["images"].shape[0] == 8
  sample("--chain", "--seeds=0-2", f"--out={tmp_path}/x.npz")
  np.testing.assert_array_equal(arrays(tmp_path / "x.npz")["images"], frames.images)


def test_neighbors_show_means_and_the_nearest_training_image(tmp_path, model):
  result = sample("--neighbors", "--seeds=0-2", f"--out={tmp_path}/x.npz")
  assert "distance to the nearest training image: mean" in result.stdout
  found = arrays(tmp_path / "x.npz")
  assert found["images"].shape == (3, 10, 8, 8, 1)
  train = digits.load("digits").train / 17
  last = found["images"][:, -1]
  distances = np.linalg.norm((last[:, None] - train).reshape(3, len(train), -1), axis=2)
  np.testing.assert_allclose(found["nearest"], train[distances.argmin(1)], rtol=1e-6)
  sample("--neighbors", "--seeds=0-2", f"--out={tmp_path}/x.png")
  assert pixels(tmp_path / "x.png").shape[1] > 11 * 64


def test_infusion_chains_do_not_depend_on_each_other(tmp_path):
  sample("--infuse=test:0-3", f"--out={tmp_path}/many.npz")
  sample("--infuse=test:2", f"--out={tmp_path}/one.npz")
  many, one = arrays(tmp_path / "many.npz"), arrays(tmp_path / "one.npz")
  np.testing.assert_array_equal(one["images"][0], many["images"][2])
  test = digits.load("digits").test
  np.testing.assert_allclose(many["target"], test[:4] / 17, rtol=1e-6)
  assert list(many["rows"]) == ["test 0", "test 1", "test 2", "test 3"]
  for split in ("train", "validation"):
    sample(f"--infuse={split}:1", f"--out={tmp_path}/{split}.npz")
    target = arrays(tmp_path / f"{split}.npz")["target"][0]
    expected = digits.load("digits").split(split)[1] / 17
    np.testing.assert_allclose(target, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ("asked", "rows"),
  [
    ("all", ["untrained", "epoch 1", "epoch 2", "epoch 3"]),
    ("0,3", ["untrained", "epoch 3"]),
  ],
)
def test_a_row_for_each_saved_epoch(run, tmp_path, asked, rows):
  sample(
    "--infuse=test:1", f"--checkpoints={asked}", f"--out={tmp_path}/x.npz", workdir=run
  )
  found = arrays(tmp_path / "x.npz")
  assert list(found["rows"]) == rows
  assert found["images"].shape == (len(rows), 11, 8, 8, 1)
  sample("--infuse=test:1", f"--out={tmp_path}/last.npz", workdir=run)
  last = arrays(tmp_path / "last.npz")["images"][0]
  np.testing.assert_array_equal(found["images"][-1], last)
  assert not np.allclose(found["images"][0], last)


# Mistakes.


def test_data_of_another_size_are_refused(tmp_path, model):
  images = np.random.default_rng(0).integers(0, 17, (20, 9, 9, 1), dtype=np.uint8)
  np.savez(tmp_path / "other.npz", images=images, levels=17)
  config = model.config.to_dict()
  config["data"] |= {"name": "other", "source": "npz", "path": str(tmp_path / "gone")}
  changed = dataclasses.replace(model, about={**model.about, "config": config})
  models.export(changed, tmp_path / "run")
  result = launch("sample", f"--workdir={tmp_path}/run", "--infuse=test:0")
  assert result.returncode == 2
  assert "there is no such file" in result.stderr
  result = launch(
    "sample",
    f"--workdir={tmp_path}/run",
    "--infuse=test:0",
    f"--data_path={tmp_path}/other.npz",
  )
  assert result.returncode == 2
  assert "(9, 9, 1)" in result.stderr
  assert "(8, 8, 1)" in result.stderr
  assert not (tmp_path / "run" / "infusion.png").exists()


def test_numbers_and_ranges():
  assert selection.parse_numbers("0-3,7", "x") == [0, 1, 2, 3, 7]
  assert selection.parse_numbers(" 4 , 2", "x") == [4, 2]
  for text in ("", "1,", "-3", "1-2-3", "²"):
    with pytest.raises(UserError, match="--x"):
      selection.parse_numbers(text, "x")
