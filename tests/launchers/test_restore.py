"""experiments.restore as a person uses it."""

import json

import numpy as np
import pytest
from launching import DIGITS, launch
from PIL import Image

from infusion_jax.views import restoring


@pytest.mark.parametrize("task", ["superres", "inpaint"])
def test_restorations_agree_with_what_was_seen(tmp_path, task):
  out = tmp_path / "x.npz"
  result = launch(
    "restore",
    f"--workdir={DIGITS}",
    f"--task={task}",
    "--factor=2",
    "--images=test:3,0",
    "--restarts=3",
    f"--out={out}",
  )
  assert result.returncode == 0, result.stderr
  assert "PSNR" in result.stdout and "3 restorations of 2 images" in result.stdout
  with np.load(out) as file:
    found = dict(file)
  originals, images = found["originals"], found["images"]
  assert images.shape == (2, 3, 8, 8, 1)
  if task == "superres":
    blocks = images.reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    seen = originals.reshape(2, 1, 4, 2, 4, 2).mean((3, 5))
    np.testing.assert_allclose(blocks, np.repeat(seen, 3, 1), atol=1e-4)
  else:
    np.testing.assert_array_equal(images[:, :, :4], originals[:, None, :4].repeat(3, 1))
  values = json.loads(out.with_suffix(".json").read_text())
  assert values["psnr_mean"] > values["psnr_plain"] > 5
  assert values["psnr_best"] >= values["psnr"]
  assert values["diversity"] > 0


def test_a_picture_is_drawn(tmp_path):
  out = tmp_path / "x.png"
  flags = "--task=superres", "--factor=2", "--images=test:0", "--restarts=2"
  assert (
    launch("restore", f"--workdir={DIGITS}", *flags, f"--out={out}").returncode == 0
  )
  with Image.open(out) as picture:
    assert picture.width > 4 * 64


def test_psnr_is_that_of_its_formula():
  x = np.zeros((2, 2, 2, 1))
  np.testing.assert_allclose(restoring.psnr(x + 0.1, x), 20.0, rtol=1e-6)
  np.testing.assert_allclose(restoring.psnr(x - 0.5, x), 120.0)
