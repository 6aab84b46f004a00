"""Where results may go, and that nothing else is touched."""

import numpy as np
import pytest
from launching import tree
from PIL import Image

from infusion_jax.drawing import outputs
from infusion_jax.errors import UserError
from infusion_jax.storage import files


def images(count=3):
  return np.random.default_rng(0).uniform(0, 1, (count, 4, 5, 1)).astype(np.float32)


@pytest.mark.parametrize(
  ("path", "folder"),
  [("out/", True), ("out", True), ("a.b/out", True), ("out.png", False)],
)
def test_a_name_without_extension_is_a_folder(path, folder):
  assert outputs.is_folder(path) == folder


def test_a_folder_that_is_there_is_one_whatever_its_name(tmp_path):
  (tmp_path / "v1.2").mkdir()
  assert outputs.is_folder(str(tmp_path / "v1.2"))


def test_images_are_named_by_seed_and_kept_pixel_for_pixel(tmp_path):
  folder = tmp_path / "new" / "images"
  outputs.save_folder(folder, images(), [5, 0, 4294967295])
  assert sorted(tree(folder)) == [
    "seed_0000000000.png",
    "seed_0000000005.png",
    "seed_4294967295.png",
  ]
  with Image.open(folder / "seed_0000000005.png") as file:
    expected = np.round(images()[0, ..., 0] * 255)
    np.testing.assert_array_equal(np.asarray(file), expected)
  # More seeds join them, the same ones replace them.
  outputs.save_folder(folder, images(2), [0, 7])
  assert len(tree(folder)) == 4


def test_a_folder_of_other_things_is_left_alone(tmp_path):
  (tmp_path / "holiday.png").write_bytes(b"mine")
  with pytest.raises(UserError, match=r"holds other things \(holiday.png\)"):
    outputs.check(str(tmp_path), (".png",), folder=True)
  with pytest.raises(UserError, match="holds other things"):
    outputs.save_folder(tmp_path, images(), [0, 1, 2])
  assert tree(tmp_path) == {"holiday.png": b"mine"}


def test_arrays_are_written_whole(tmp_path):
  outputs.save_arrays(tmp_path / "new" / "x.npz", {"images": images()})
  with np.load(tmp_path / "new" / "x.npz") as file:
    np.testing.assert_array_equal(file["images"], images())
  assert sorted(tree(tmp_path)) == ["new/x.npz"]


@pytest.mark.parametrize(
  ("path", "told"),
  [
    ("x.jpg", "allowed is a name ending in .png or .npz"),
    ("folder", "allowed is a name ending in .png or .npz"),
    ("file/x.png", "is not a folder"),
    ("file/deeper/x.png", "is not a folder"),
  ],
)
def test_places_that_cannot_be_written_are_found_at_once(tmp_path, path, told):
  (tmp_path / "file").write_text("a file")
  with pytest.raises(UserError, match=told):
    outputs.check(str(tmp_path / path), (".png", ".npz"))
  assert sorted(tree(tmp_path)) == ["file"]


def test_a_file_is_no_folder(tmp_path):
  (tmp_path / "file").write_text("a file")
  with pytest.raises(UserError, match="is a file; allowed is a folder"):
    outputs.check(str(tmp_path / "file"), (".png",), folder=True)
  with pytest.raises(UserError, match="cannot write"):
    files.save_bytes(tmp_path / "file" / "x.html", b"")
