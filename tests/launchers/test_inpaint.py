"""experiments.inpaint as a person uses it."""

import numpy as np
import pytest
from launching import DIGITS, launch
from PIL import Image

from infusion_jax.datasets import digits


def inpaint(*arguments):
  result = launch("inpaint", f"--workdir={DIGITS}", *arguments)
  assert result.returncode == 0, result.stderr
  return result


def arrays(path):
  with np.load(path) as file:
    return dict(file)


@pytest.mark.parametrize("keep", ["top", "right"])
def test_known_pixels_stay_and_restarts_differ(tmp_path, keep):
  result = inpaint(
    f"--keep={keep}", "--images=test:3,0", "--restarts=4", f"--out={tmp_path}/x.npz"
  )
  assert "wrote 4 completions of 2 images" in result.stdout
  found = arrays(tmp_path / "x.npz")
  known = found["known"]
  assert known.sum() == 32
  test = (digits.load("digits").test[[3, 0]] / 17).astype(np.float32)
  np.testing.assert_array_equal(found["originals"], test)
  assert found["images"].shape == (2, 4, 8, 8, 1)
  for k in range(4):
    np.testing.assert_array_equal(found["images"][:, k][:, known], test[:, known])
  np.testing.assert_array_equal(found["starts"][:, known], test[:, known])
  parts = found["images"][:, :, ~known].reshape(8, -1)
  assert len(np.unique(parts, axis=0)) == 8


def test_an_image_s_completions_do_not_depend_on_the_others(tmp_path):
  inpaint("--images=test:0-3", "--restarts=2", f"--out={tmp_path}/many.npz")
  inpaint("--images=test:2", "--restarts=3", f"--out={tmp_path}/one.npz")
  inpaint("--images=test:2", "--restarts=3", "--seed=1", f"--out={tmp_path}/other.npz")
  many, one, other = (
    arrays(tmp_path / f"{name}.npz")["images"] for name in ("many", "one", "other")
  )
  np.testing.assert_array_equal(one[0, :2], many[2])
  assert not np.array_equal(one, other)


def test_a_picture_of_one_s_own_keeps_its_bytes(tmp_path):
  """What is known in the file stands in the drawing, byte for byte."""
  own = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
  Image.fromarray(own).save(tmp_path / "own.png")
  mask = np.zeros((8, 8), np.uint8)
  mask[2:7, 1:5] = 255
  Image.fromarray(mask).save(tmp_path / "mask.png")
  inpaint(
    f"--file={tmp_path}/own.png",
    f"--mask={tmp_path}/mask.png",
    "--restarts=3",
    f"--out={tmp_path}/x.png",
  )
  with Image.open(tmp_path / "x.png") as file:
    picture = np.asarray(file.convert("L"))
  # Tiles of 64 pixels (8 for each of the image's), at the right and lower edge.
  right = picture.shape[1] - 8
  tiles = [picture[-72:-8, right - end : right - end + 64] for end in (200, 132, 64)]
  known = mask > 0
  for tile in tiles:
    np.testing.assert_array_equal(tile[::8, ::8][known], own[known])
    np.testing.assert_array_equal(tile[7::8, 7::8][known], own[known])
  assert not np.array_equal(tiles[0], tiles[1])
