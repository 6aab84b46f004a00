"""Pictures: where pixels end up, what is refused, and what files hold."""

import io
import math
import pathlib
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from infusion_jax.drawing import line_plots, markdown, plots, tiles
from infusion_jax.errors import UserError
from infusion_jax.storage import files

MARGIN = tiles.MARGIN


def random_images(*shape: int, low: float = 0.1, high: float = 0.9) -> np.ndarray:
  return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
  pixels = plots.to_uint8(image)
  out = np.kron(pixels, np.ones((scale, scale, 1), np.uint8))
  return np.broadcast_to(out, (*out.shape[:2], 3))


def gif_frames(content: bytes) -> tuple[list[np.ndarray], list[int]]:
  with Image.open(io.BytesIO(content)) as image:
    frames, times = [], []
    for index in range(image.n_frames):
      image.seek(index)
      frames.append(np.asarray(image.convert("RGB")))
      times.append(image.info["duration"])
  return frames, times


# Pixels.


def test_to_uint8_rounds_and_clips():
  values = [-3.0, 0.0, 0.5, 1.0, 1.7, np.inf, -np.inf]
  np.testing.assert_array_equal(
    plots.to_uint8(np.array(values)), [0, 0, 128, 255, 255, 255, 0]
  )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, jnp.bfloat16])
def test_to_uint8_takes_every_float_type(dtype):
  np.testing.assert_array_equal(plots.to_uint8(jnp.array([0, 1], dtype)), [0, 255])


def test_to_uint8_keeps_every_uint8_value_and_undoes_division():
  values = np.arange(256, dtype=np.uint8)
  assert plots.to_uint8(values) is values
  np.testing.assert_array_equal(plots.to_uint8(values / 255.0), values)


def test_nan_is_refused_by_name():
  images = random_images(2, 4, 4, 1)
  images[1, 2, 3] = np.nan
  with pytest.raises(UserError, match="images has 1 NaN in 32 values"):
    plots.grid(images)
  with pytest.raises(UserError, match="results has 1 NaN"):
    plots.inpainting(images[:1], images[:1], images[1:, None])


@pytest.mark.parametrize("dtype", [np.int32, bool, complex])
def test_other_types_are_refused(dtype):
  with pytest.raises(UserError, match=f"dtype {np.dtype(dtype)}"):
    plots.grid(np.zeros((1, 2, 2, 1), dtype))


# Grids.


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_tile_i_in_row_major_order(channels):
  images = random_images(5, 3, 5, channels)
  picture = plots.grid(images, columns=2, padding=2, scale=4, background=(9, 8, 7))
  assert picture.dtype == np.uint8
  assert picture.shape == (3 * (3 * 4 + 2) + 2, 2 * (5 * 4 + 2) + 2, 3)
  covered = np.zeros(picture.shape[:2], bool)
  for i, image in enumerate(images):
    top, left = 2 + i // 2 * 14, 2 + i % 2 * 22
    tile = picture[top : top + 12, left : left + 20]
    np.testing.assert_array_equal(tile, enlarged(image, 4))
    covered[top : top + 12, left : left + 20] = True
  assert np.all(picture[~covered] == (9, 8, 7))


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
  count=st.integers(1, 13),
  height=st.integers(1, 9),
  width=st.integers(1, 9),
  channels=st.sampled_from([1, 3]),
  columns=st.none() | st.integers(1, 15),
  padding=st.integers(0, 3),
  scale=st.integers(1, 3),
)
def test_grid_shape_and_values(count, height, width, channels, columns, padding, scale):
  images = random_images(count, height, width, channels)
  picture = plots.grid(images, columns, padding, scale, background=0)
  across = min(columns or math.ceil(math.sqrt(count)), count)
  down = math.ceil(count / across)
  assert picture.shape == (
    down * (height * scale + padding) + padding,
    across * (width * scale + padding) + padding,
    3,
  )
  values = set(np.unique(plots.to_uint8(images)))  # none is the background's 0
  assert set(np.unique(picture)) - {0} == values
  drawn = np.count_nonzero(picture)
  assert drawn == count * height * width * 3 * scale**2


@pytest.mark.parametrize(
  ("side", "scale"), [(8, 8), (28, 3), (32, 2), (64, 1), (99, 1)]
)
def test_default_scale_and_padding_suit_the_image_size(side, scale):
  padding = max(1, scale // 2)
  shape = plots.grid(random_images(4, side, side, 1)).shape
  assert shape == (*[2 * (side * scale + padding) + padding] * 2, 3)


def test_default_scale_keeps_wide_pictures_narrow():
  assert plots.grid(random_images(31, 1, 28, 1), columns=31).shape[1] == 31 * 57 + 1
  assert plots.grid(random_images(99, 1, 28, 1), columns=99).shape[1] == 99 * 29 + 1


def test_drawing_leaves_its_input_alone():
  images = random_images(3, 4, 4, 1)
  before = images.copy()
  plots.grid(images)[:] = 0
  pixels = plots.to_uint8(images)
  plots.grid(pixels, scale=1)[:] = 0
  np.testing.assert_array_equal(images, before)
  np.testing.assert_array_equal(pixels, plots.to_uint8(before))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"columns": 0}, "columns is 0; it must be at least 1"),
    ({"padding": -1}, "padding is -1"),
    ({"scale": 0}, "scale is 0"),
  ],
)
def test_grid_refuses_bad_options(options, message):
  with pytest.raises(UserError, match=message):
    plots.grid(random_images(2, 4, 4, 1), **options)


@pytest.mark.parametrize("shape", [(4, 4, 1), (2, 4, 4, 2), (0, 4, 4, 1), (2, 0, 4, 3)])
def test_grid_refuses_bad_shapes(shape):
  with pytest.raises(UserError, match=r"images has shape .* \[N, H, W, 1 or 3\]"):
    plots.grid(np.zeros(shape))


# Strips and other panels.


@pytest.mark.parametrize("channels", [1, 3])
def test_strip_without_labels_has_rows_steps_and_a_gap(channels):
  chains, last = random_images(2, 3, 4, 5, channels), random_images(2, 4, 5, channels)
  picture = plots.strip(chains, last, padding=1, gap=7, scale=2)
  body = picture[MARGIN:-MARGIN, MARGIN:-MARGIN]
  assert body.shape == (2 * 8 + 1, 3 * 10 + 2 + 7 + 10, 3)
  for row, step in np.ndindex(2, 3):
    tile = body[row * 9 : row * 9 + 8, step * 11 : step * 11 + 10]
    np.testing.assert_array_equal(tile, enlarged(chains[row, step], 2))
  assert np.all(body[:, 32:39] == 255)
  np.testing.assert_array_equal(body[9:, 39:], enlarged(last[1], 2))
  assert np.all(body[8] == 255)


def test_labels_stand_outside_the_images():
  chains = np.zeros((2, 4, 8, 8, 1))
  plain = plots.strip(chains)
  named = plots.strip(chains, None, [f"t = {t}" for t in range(4)], ["one", "two"])
  height, width = np.subtract(plain.shape[:2], 2 * MARGIN)
  bottom, right = np.subtract(named.shape[:2], MARGIN)
  np.testing.assert_array_equal(
    named[bottom - height : bottom, right - width : right],
    plain[MARGIN:-MARGIN, MARGIN:-MARGIN],
  )
  above, before = named[: bottom - height], named[:, : right - width]
  assert above[:, right - width :].min() < 128
  assert before[bottom - height :].min() < 128
  for step in range(4):  # a label over each of the four columns
    left = right - width + step * 68
    assert above[:, left : left + 64].min() < 128


def test_colliding_labels_are_thinned_evenly():
  texts = [f"step {t}" for t in range(12)]
  band = tiles.draw_labels(texts, length=12 * 20, padding=0, size=14, axis=1)
  empty = np.all(band == 255, axis=(0, 2))
  wide_gaps = [len(run) for run in "".join(map(str, empty.astype(int))).split("0")]
  assert sum(gap >= 6 for gap in wide_gaps) >= 2
  only = [t if i % 4 == 3 else "" for i, t in enumerate(texts)]
  np.testing.assert_array_equal(band, tiles.draw_labels(only, 240, 0, 14, axis=1))


def test_neighbors_is_a_strip_with_a_titled_last_column():
  chains, nearest = random_images(2, 3, 8, 8, 1), random_images(2, 8, 8, 1)
  np.testing.assert_array_equal(
    plots.neighbors(chains, nearest, scale=3),
    plots.strip(chains, nearest, last_label="nearest", scale=3),
  )


def test_inpainting_shows_its_three_parts_in_order():
  level = [np.full((2, 8, 8, 3), v, np.uint8) for v in (10, 20)]
  results = np.full((2, 4, 8, 8, 3), 30, np.uint8)
  picture = plots.inpainting(*level, results)
  row = picture[-MARGIN - 1, MARGIN:-MARGIN, 0]
  changes = row[np.flatnonzero(np.diff(row, prepend=255))]
  assert changes[changes < 255].tolist() == [10, 20, 30, 30, 30, 30]
  assert np.count_nonzero(row == 30) == 4 * 64


def test_parts_must_agree():
  with pytest.raises(UserError, match="differ in rows or image size"):
    plots.strip(random_images(2, 3, 4, 4, 1), random_images(3, 4, 4, 1))
  with pytest.raises(UserError, match="column_labels has 2 entries; it needs 3"):
    plots.strip(random_images(2, 3, 4, 4, 1), column_labels=["a", "b"])
  with pytest.raises(UserError, match="row_labels has 1 entries; it needs 2"):
    plots.strip(random_images(2, 3, 4, 4, 1), row_labels=["a"])


def test_labelled_rows_may_have_different_lengths():
  images = np.zeros((5, 8, 8, 1))
  groups = {("15", "0.01"): images, ("15", "0.05"): images[:2]}
  picture = plots.labelled_rows(groups, ("T", "ω", "samples"), padding=2, scale=4)
  last_row = picture[-MARGIN - 32 : -MARGIN, -MARGIN - 5 * 34 + 2 :]
  assert np.all(last_row[:, :32] == 0)
  assert np.all(last_row[:, 66:] == 255)
  assert picture.shape[0] > 2 * MARGIN + 66  # the headers


def test_labelled_rows_refuses_what_does_not_fit():
  images = np.zeros((1, 4, 4, 1))
  for groups in ({}, {("a", "b"): images, "c": images}):
    with pytest.raises(UserError, match="groups"):
      plots.labelled_rows(groups)
  with pytest.raises(UserError, match="headers has 1 entries; it needs 2"):
    plots.labelled_rows({"a": images}, ["T"])
  assert plots.labelled_rows({"": images}).ndim == 3


# Curves.


def colours(picture: np.ndarray) -> set[tuple[int, ...]]:
  return set(map(tuple, np.unique(picture.reshape(-1, 3), axis=0).tolist()))


def test_curves_draws_each_line_in_its_own_colour_and_size():
  x = np.arange(20)
  lines = {"train": (x, x), "valid": (x, x - 1.0, np.ones(20))}
  picture = line_plots.curves(
    lines, "epoch", "bound", "title", {"Parzen": (x, -x)}, "nats", size=(4, 3)
  )
  assert picture.shape == (450, 600, 3)
  assert picture.dtype == np.uint8
  assert {(0, 114, 178), (213, 94, 0), (0, 158, 115)} <= colours(picture)


def test_many_lines_take_an_ordered_colour_scale():
  lines = {f"{i}": ([0, 1], [i, i]) for i in range(9)}
  picture = line_plots.curves(lines, "x", "y", size=(4, 3))
  assert (0, 114, 178) not in colours(picture)
  assert (68, 1, 84) in colours(picture)


def test_a_long_legend_gets_the_room_it_needs():
  short = {f"{i}": ([0, 1], [i, i]) for i in range(9)}
  many = {f"hidden_sizes = (512, 512), seed {i}": ([0, 1], [i, i]) for i in range(30)}
  usual = line_plots.curves(short, "x", "y").shape
  picture = line_plots.curves(many, "x", "y")
  assert usual == (600, 960, 3)
  assert picture.shape[0] > 900 and picture.shape[1] > 1100
  # The last label is not cut off: there is white below the lowest of the legend.
  beside = picture[:, -300:].min((1, 2))
  assert beside[:5].min() == 255 and beside[-5:].min() == 255


def test_limits_start_at_a_quantile_of_the_finite_values():
  y = np.array([-1e9, np.nan, -np.inf, np.inf, *np.arange(99.0)])
  low, high = line_plots.limits([y], 0.5)
  assert 40 < low < 50
  assert 98 < high < 102
  assert line_plots.limits([y], 0.0) == (None, None)
  assert line_plots.limits([np.array([np.nan])], 0.5) == (None, None)
  assert line_plots.limits([np.ones(3)], 0.5) == (None, None)


def test_curves_survive_values_without_a_finite_one():
  nan = np.full(3, np.nan)
  picture = line_plots.curves(
    {"diverged": ([1, 2, 3], nan)}, "x", "y", clip_low_quantile=0.1
  )
  assert picture.shape == (600, 960, 3)


def test_curves_refuses_bad_lines():
  with pytest.raises(UserError, match="number of lines is 0"):
    line_plots.curves({}, "x", "y")
  with pytest.raises(UserError, match="line 'a' has shapes"):
    line_plots.curves({"a": ([1, 2], [1])}, "x", "y")
  with pytest.raises(UserError, match=r"clip_low_quantile is 1\.5"):
    line_plots.curves({"a": ([1], [1])}, "x", "y", clip_low_quantile=1.5)


def test_importing_leaves_matplotlib_alone_and_drawing_leaves_pyplot_alone():
  code = """
import sys
from infusion_jax.drawing import line_plots, plots
from infusion_jax.drawing import tiles as layout
assert "matplotlib" not in sys.modules
line_plots.curves({"a": ([1, 2], [1, 2])}, "x", "y")
assert "matplotlib.pyplot" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# Tables and captions.


def test_markdown_table_aligns_numbers_right():
  rows = [["DBM", "138 ± 2"], ["a|b\nc", np.float32(312.25)], ["none", "—"]]
  assert markdown.table(["model", "nats"], rows).splitlines() == [
    "| model  |    nats |",
    "| ------ | ------: |",
    "| DBM    | 138 ± 2 |",
    r"| a\|b c |  312.25 |",
    "| none   |       — |",
  ]


def test_tables_refuse_ragged_rows():
  with pytest.raises(UserError, match="row 1 has 1 entries; it needs 2"):
    markdown.table(["a", "b"], [[1, 2], [3]])


# Files.


def test_gif_of_grey_chains_is_exact_and_holds_its_end():
  chains = random_images(6, 4, 5, 3, 1)
  content = plots.gif(chains, frame_ms=80, hold_ms=1500, columns=4, scale=2)
  frames, times = gif_frames(content)
  assert times == [80] * 5 + [1500]
  for frame, step in zip(frames, chains, strict=True):
    np.testing.assert_array_equal(frame, plots.grid(step, columns=4, scale=2))


def test_gif_of_colour_chains_is_close():
  chains = random_images(3, 4, 4, 4, 3)
  chains[0] = chains[0, ..., :1]  # a grey frame among coloured ones
  frames, times = gif_frames(plots.gif(chains))
  assert len(times) == 3
  for frame, step in zip(frames, chains, strict=True):
    np.testing.assert_allclose(frame, plots.grid(step), atol=24)


def test_gif_refuses_what_no_viewer_shows():
  with pytest.raises(UserError, match="at least 20"):
    plots.gif(random_images(2, 1, 4, 4, 1), frame_ms=5)
  with pytest.raises(UserError, match="chains has shape"):
    plots.gif(random_images(2, 4, 4, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_save_writes_the_same_pixels(tmp_path, channels):
  picture = plots.to_uint8(random_images(7, 9, channels))
  path = tmp_path / "new" / "picture.PNG"
  plots.save(path, picture)
  with Image.open(path) as image:
    assert image.format == "PNG"
    read = np.asarray(image)
  np.testing.assert_array_equal(read.reshape(picture.shape), picture)
  assert [p.name for p in path.parent.iterdir()] == ["picture.PNG"]


def test_save_bytes_replaces_a_file(tmp_path):
  path = tmp_path / "chain.gif"
  for content in (b"old", plots.gif(random_images(2, 1, 4, 4, 1))):
    files.save_bytes(path, content)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.gif"])
def test_save_names_the_allowed_extensions(tmp_path, name):
  with pytest.raises(UserError, match=rf"{name}.*must end in \.png"):
    plots.save(tmp_path / name, np.zeros((1, 1, 3), np.uint8))
  assert not list(tmp_path.iterdir())


def test_save_refuses_other_arrays(tmp_path):
  for bad in (np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8)):
    with pytest.raises(UserError, match="a picture is uint8"):
      plots.save(tmp_path / "a.png", bad)


def test_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
  path = tmp_path / "a.png"
  files.save_bytes(path, b"old")

  def fail(self, target):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "replace", fail)
  with pytest.raises(UserError, match=r"a\.png': No space left on device"):
    plots.save(path, np.zeros((1, 1, 3), np.uint8))
  assert path.read_bytes() == b"old"
  assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_save_into_a_file_as_folder_is_a_users_mistake(tmp_path):
  (tmp_path / "file").write_bytes(b"")
  with pytest.raises(UserError, match="cannot write"):
    plots.save(tmp_path / "file" / "a.png", np.zeros((1, 1, 3), np.uint8))


def test_logarithmic_axes_space_equal_ratios_equally():
  """Three points in equal ratios lie on one straight line, from end to end."""
  points = ([1, 10, 100], [1, 10, 100])
  picture = line_plots.curves({"a": points}, "x", "y", logarithmic="xy")
  blue = np.abs(picture.astype(int) - (0x00, 0x72, 0xB2)).sum(-1) < 30
  rows, columns = np.nonzero(blue)
  assert np.ptp(rows) > 0.7 * picture.shape[0]
  assert abs(np.corrcoef(rows, columns)[0, 1]) > 0.999
