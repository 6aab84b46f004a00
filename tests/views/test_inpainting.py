"""A person's own pictures and masks, and the completions of images."""

import jax
import numpy as np
import pytest
from launching import DIGITS
from PIL import Image

import infusion_jax
from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.views import inpainting

GREY, COLOUR = (8, 6, 1), (8, 6, 3)


def save(path, values, mode=None, **options):
  Image.fromarray(np.asarray(values), mode).save(path, **options)
  return path


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# Which part is known.


@pytest.mark.parametrize(
  ("name", "rows", "columns"),
  [
    ("top", slice(0, 4), slice(None)),
    ("bottom", slice(4, 8), slice(None)),
    ("left", slice(None), slice(0, 3)),
    ("right", slice(None), slice(3, 6)),
    ("center", slice(2, 6), slice(1, 4)),
  ],
)
def test_parts(name, rows, columns):
  expected = np.zeros((8, 6), bool)
  expected[rows, columns] = True
  np.testing.assert_array_equal(inpainting.part(name, GREY), expected)


def test_parts_that_do_not_exist_are_refused():
  with pytest.raises(UserError, match="'middle'; allowed are top, bottom, left"):
    inpainting.part("middle", GREY)
  with pytest.raises(UserError, match="makes no pixels known"):
    inpainting.part("top", (1, 4, 1))


# Pictures.


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_a_picture_of_the_model_s_size_keeps_its_bytes(tmp_path, shape, levels):
  values = noise(*shape)
  path = save(tmp_path / "own.png", values.squeeze())
  image = inpainting.read_image(path, shape, levels)
  assert image.dtype == np.float32
  assert image.shape == shape
  assert image.max() <= (levels - 1) / levels
  shown = plots.to_uint8(inpainting.shown(image, levels))
  np.testing.assert_array_equal(shown, values)


def test_integers_of_the_data_set_are_scaled_as_in_training(tmp_path):
  path = save(tmp_path / "own.png", noise(8, 6))
  image = inpainting.read_image(path, GREY, 256)
  np.testing.assert_array_equal(image[..., 0], noise(8, 6).astype(np.float32) / 256)


def test_other_sizes_are_cut_around_their_centre(tmp_path):
  wide = np.zeros((8, 30), np.uint8)
  wide[:, 12:18] = 255
  image = inpainting.read_image(save(tmp_path / "wide.png", wide), GREY, 256)
  np.testing.assert_array_equal(image, np.float32(255 / 256))
  large = np.zeros((80, 60), np.uint8)
  large[:40] = 255
  image = inpainting.read_image(save(tmp_path / "large.png", large), GREY, 256)
  assert image[:3].min() > 0.95
  assert image[5:].max() < 0.05


def test_colour_becomes_grey_and_grey_colour(tmp_path):
  green = np.zeros((8, 6, 3), np.uint8)
  green[..., 1] = 200
  grey = inpainting.read_image(save(tmp_path / "green.png", green), GREY, 256)
  np.testing.assert_allclose(grey * 256, 117, atol=1)
  path = save(tmp_path / "grey.png", noise(8, 6))
  colour = inpainting.read_image(path, COLOUR, 256)
  np.testing.assert_array_equal(colour[..., 0], colour[..., 2])


def test_modes_of_every_day(tmp_path):
  deep = (noise(8, 6).astype(np.uint16) << 8) + 77
  image = inpainting.read_image(save(tmp_path / "deep.png", deep), GREY, 256)
  np.testing.assert_array_equal(image[..., 0] * 256, noise(8, 6))
  rgba = np.concatenate([noise(8, 6, 3), np.full((8, 6, 1), 255, np.uint8)], -1)
  rgba[:4, :, 3] = 0
  image = inpainting.read_image(save(tmp_path / "clear.png", rgba), COLOUR, 256)
  assert np.all(image[:4] == 0)
  np.testing.assert_array_equal(image[4:] * 256, rgba[4:, :, :3])
  Image.fromarray(noise(8, 6, 3)).convert("P").save(tmp_path / "palette.png")
  assert inpainting.read_image(tmp_path / "palette.png", GREY, 256).shape == GREY
  save(tmp_path / "own.jpg", noise(8, 6, 3))
  assert inpainting.read_image(tmp_path / "own.jpg", COLOUR, 256).shape == COLOUR


def test_a_photograph_is_turned_upright(tmp_path):
  values = np.zeros((8, 8), np.uint8)
  values[0] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # Show it turned by a quarter, clockwise.
  save(tmp_path / "turned.png", values, exif=exif)
  image = inpainting.read_image(tmp_path / "turned.png", (8, 8, 1), 256)
  np.testing.assert_array_equal(image[:, -1, 0], np.float32(255 / 256))
  assert np.all(image[:, :-1] == 0)


def test_files_that_are_no_pictures_are_refused(tmp_path):
  with pytest.raises(UserError, match=r"none\.png does not exist"):
    inpainting.read_image(tmp_path / "none.png", GREY, 256)
  (tmp_path / "text.png").write_text("no picture")
  cut = save(tmp_path / "cut.png", noise(80, 60)).read_bytes()[:200]
  (tmp_path / "cut.png").write_bytes(cut)
  for name in ("text.png", "cut.png", "."):
    with pytest.raises(UserError, match="cannot be read as a picture"):
      inpainting.read_image(tmp_path / name, GREY, 256)
  save(tmp_path / "float.tiff", np.zeros((8, 6), np.float32))
  with pytest.raises(UserError, match="is of mode F"):
    inpainting.read_image(tmp_path / "float.tiff", GREY, 256)


# Masks.


def test_white_is_known(tmp_path):
  mask = np.zeros((16, 12), np.uint8)
  mask[:8, :4] = 255
  known = inpainting.read_mask(save(tmp_path / "mask.png", mask), GREY)
  expected = np.zeros((8, 6), bool)
  expected[:4, :2] = True
  np.testing.assert_array_equal(known, expected)


@pytest.mark.parametrize(("value", "told"), [(255, "all"), (0, "no")])
def test_a_mask_of_one_kind_is_refused(tmp_path, value, told):
  path = save(tmp_path / "mask.png", np.full((8, 6), value, np.uint8))
  with pytest.raises(UserError, match=f"makes {told} pixels known"):
    inpainting.read_mask(path, GREY)


# Completions.


def test_completions_differ_where_nothing_is_known():
  model = infusion_jax.load(DIGITS)
  originals = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 1)).astype(np.float32)
  known = inpainting.part("left", model.image_shape)
  found = inpainting.complete(model, jax.random.key(0), originals, known, 3)
  assert found.starts.shape == (2, 8, 8, 1)
  assert found.images.shape == (2, 3, 8, 8, 1)
  np.testing.assert_array_equal(found.starts[:, :, :4], originals[:, :, :4])
  for k in range(3):
    np.testing.assert_array_equal(found.images[:, k, :, :4], originals[:, :, :4])
  parts = found.images[..., 4:, :].reshape(6, -1)
  assert len(np.unique(parts, axis=0)) == 6
  # Restart k of image n depends on n and k alone.
  one = inpainting.complete(
    model, jax.random.key(0), originals[1:], known, 2, numbers=[1]
  )
  np.testing.assert_array_equal(one.images[0], found.images[1, :2])
  np.testing.assert_array_equal(one.starts[0], found.starts[1])
  picture = inpainting.panel(originals, found, model.levels)
  assert picture.dtype == np.uint8
