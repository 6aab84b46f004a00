import io
import logging
import os
import pathlib
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infusion_jax import datasets
from infusion_jax.config import DataConfig
from infusion_jax.datasets import images, listing, splits
from infusion_jax.datasets.geometry import Geometry
from infusion_jax.errors import UserError


def picture(value: int, size=(6, 4), mode="RGB", form="PNG", **options) -> bytes:
  """A picture of one value, height x width; PNG keeps it exactly."""
  height, width = size
  stream = io.BytesIO()
  color = value if mode in ("L", "I;16") else (value, value, value)
  Image.new(mode, (width, height), color).save(stream, form, **options)
  return stream.getvalue()


def write(root: pathlib.Path, content: dict[str, bytes]) -> str:
  """Puts files into a folder, or a zip where the name ends so."""
  if root.suffix == ".zip":
    with zipfile.ZipFile(root, "w") as archive:
      for name, data in content.items():
        archive.writestr(name, data)
    return str(root)
  for name, data in content.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return str(root)


def load(path: str, folder: pathlib.Path, **options) -> datasets.Dataset:
  return datasets.load(
    "toy", "images", path, cache_dir=str(folder / "cache"), **options
  )


def values(split: np.ndarray) -> list[int]:
  """The value of every picture, sorted."""
  assert (split == split[:, :1, :1, :1]).all()
  return sorted(split[:, 0, 0, 0].tolist())


@pytest.fixture(params=["folder", "pictures.zip"])
def root(request, tmp_path) -> pathlib.Path:
  return tmp_path / request.param


def test_split_folders(root, tmp_path):
  content = {f"train/{i}.png": picture(i) for i in range(12)}
  content |= {f"validation/{i}.png": picture(100 + i) for i in range(2)}
  content |= {f"test/{i}.png": picture(200 + i) for i in range(3)}
  dataset = load(write(root, content), tmp_path)
  assert dataset.image_shape == (6, 4, 3)
  assert values(dataset.train) == list(range(12))
  assert values(dataset.validation) == [100, 101]
  assert values(dataset.test) == [200, 201, 202]


def test_validation_is_carved_after_a_permutation(root, tmp_path):
  content = {
    f"train/{c}/{i}.png": picture(10 * c + i) for c in range(2) for i in range(9)
  }
  content |= {f"test/{c}/0.png": picture(50 + c) for c in range(2)}
  dataset = load(write(root, content), tmp_path)
  assert len(dataset.validation) == 3
  together = values(np.concatenate([dataset.train, dataset.validation]))
  assert together == sorted(10 * c + i for c in range(2) for i in range(9))
  # Not one class after the other.
  assert dataset.train[:, 0, 0, 0].tolist() != sorted(dataset.train[:, 0, 0, 0])


def test_no_split_folders(root, tmp_path):
  content = {f"{i % 3}/{i:02}.png": picture(i) for i in range(20)}
  dataset = load(write(root, content), tmp_path)
  parts = dataset.train, dataset.validation, dataset.test
  assert [len(part) for part in parts] == [14, 2, 4]
  assert values(np.concatenate(parts)) == list(range(20))


def test_folder_and_zip_give_the_same(tmp_path):
  content = {f"{i}.png": picture(i) for i in range(10)}
  first, second = (
    load(write(tmp_path / name, content), tmp_path) for name in ("folder", "a.zip")
  )
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(first.split(split), second.split(split))


def test_an_outer_folder_is_seen_through(tmp_path):
  content = {f"faces/v1/train/{i}.png": picture(i) for i in range(4)}
  content |= {"faces/v1/test/0.png": picture(9), "__MACOSX/faces/._0.png": b"junk"}
  dataset = load(write(tmp_path / "a.zip", content), tmp_path)
  assert values(dataset.test) == [9]


def test_several_paths_are_the_splits_they_are_named_for(tmp_path):
  paths = [
    write(
      tmp_path / f"toy_{split}.zip", {f"{c}/{i}.png": picture(v + i) for i in range(6)}
    )
    for split, c, v in (("train", "a", 0), ("test", "a", 100))
  ]
  dataset = load(", ".join(paths), tmp_path)
  assert values(np.concatenate([dataset.train, dataset.validation])) == list(range(6))
  assert values(dataset.test) == [100 + i for i in range(6)]
  with pytest.raises(UserError, match="each must end in train, validation or test"):
    load(f"{paths[0]},{write(tmp_path / 'more.zip', {'0.png': picture(0)})}", tmp_path)


def test_sizes_differ(root, tmp_path):
  content = {f"{i}.png": picture(i, size=(8 + i, 6)) for i in range(4)}
  path = write(root, content)
  with pytest.raises(UserError, match=r"differ in size: \d.png is \d+x6, .*data.size"):
    load(path, tmp_path)
  dataset = load(path, tmp_path, size=5)
  assert dataset.image_shape == (5, 5, 3)
  assert values(np.concatenate([dataset.train, dataset.validation, dataset.test])) == [
    0,
    1,
    2,
    3,
  ]


def broken(root: pathlib.Path) -> str:
  """Pictures of different sizes, three of them broken in different ways."""
  content = {f"ok{i}.png": picture(i, size=(8 + i, 12 - i)) for i in range(9)}
  content["cut.png"] = picture(1, size=(40, 40))[:60]
  content["text.jpg"] = b"not a picture"
  content["empty.png"] = b""
  return write(root, content)


def test_bad_pictures_fail_by_name(root, tmp_path):
  message = r"3 of 12 pictures cannot be used: .*\(.*\).*data.bad_pictures = skip"
  with pytest.raises(UserError, match=message):
    load(broken(root), tmp_path, size=8)
  assert not (tmp_path / "cache").exists()


def test_bad_pictures_are_left_out_by_name_and_nothing_else(root, tmp_path, caplog):
  dataset = load(broken(root), tmp_path, size=8, bad_pictures="skip")
  parts = [dataset.train, dataset.validation, dataset.test]
  assert values(np.concatenate(parts)) == list(range(9))
  for name in ("cut.png", "text.jpg", "empty.png"):
    assert name in caplog.text
  assert "ok" not in caplog.text


def test_all_bad(root, tmp_path):
  path = write(root, {f"{i}.png": b"" for i in range(5)})
  with pytest.raises(UserError, match="nothing is left"):
    load(path, tmp_path, bad_pictures="skip")


def test_damaged_member_of_a_zip(tmp_path):
  path = pathlib.Path(
    write(tmp_path / "a.zip", {f"{i}.png": picture(i) for i in range(6)})
  )
  data = bytearray(path.read_bytes())
  data[data.find(b"IHDR") + 8] ^= 0xFF
  path.write_bytes(data)
  with pytest.raises(UserError, match=r"1 of \d pictures cannot be used: \d.png"):
    load(str(path), tmp_path)


def test_oversized_pictures_are_not_decoded(tmp_path, monkeypatch):
  monkeypatch.setattr(images, "MAX_PIXELS", 100)
  path = write(tmp_path / "a", {f"{i}.png": picture(i, (11, 10)) for i in range(4)})
  with pytest.raises(UserError, match="is 11x10, more than 100 pixels"):
    load(path, tmp_path)
  monkeypatch.setattr(images, "MAX_BYTES", 10)
  with pytest.raises(UserError, match="has more than"):
    load(path, tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_at_its_header(tmp_path):
  data = picture(0, (9500, 9500), "L", optimize=True)
  path = write(
    tmp_path / "a", {"bomb.png": data, "0.png": picture(0), "1.png": picture(1)}
  )
  with pytest.raises(UserError, match=r"bomb.png \(is 9500x9500, more than 89478485"):
    load(path, tmp_path)


def test_other_files_are_reported(root, tmp_path, caplog):
  content = {f"{i}.PNG": picture(i) for i in range(4)}
  content |= {"readme.txt": b"hello", ".DS_Store": b"x"}
  load(write(root, content), tmp_path)
  assert "1 files are no pictures by their endings, e.g. readme.txt" in caplog.text


def test_the_second_time_nothing_is_decoded(root, tmp_path, monkeypatch):
  path = write(root, {f"{i}.png": picture(i) for i in range(10)})
  first = load(path, tmp_path)
  monkeypatch.setattr(images, "_decode_one", lambda *_: pytest.fail("decoded again"))
  second = load(path, tmp_path)
  np.testing.assert_array_equal(first.train, second.train)
  assert second.name == "toy"
  monkeypatch.undo()
  assert load(path, tmp_path, size=3).image_shape == (3, 3, 3)
  assert load(path, tmp_path, grey=True).image_shape == (6, 4, 1)


def test_a_changed_picture_is_noticed(tmp_path):
  path = write(tmp_path / "a", {f"{i}.png": picture(i) for i in range(5)})
  load(path, tmp_path)
  (tmp_path / "a" / "3.png").write_bytes(picture(77))
  os.utime(tmp_path / "a" / "3.png", (1, 1))
  dataset = load(path, tmp_path)
  parts = dataset.train, dataset.validation, dataset.test
  assert values(np.concatenate(parts)) == [0, 1, 2, 4, 77]


def test_max_images(root, tmp_path):
  path = write(
    root, {f"{s}/{i}.png": picture(i) for s in ("train", "test") for i in range(60)}
  )
  data = DataConfig(
    name="toy", source="images", path=path, cache_dir=str(tmp_path), max_images=10
  )
  dataset = datasets.from_config(data)
  whole = load(path, tmp_path)
  for split, count in (("train", 10), ("validation", 2), ("test", 2)):
    np.testing.assert_array_equal(dataset.split(split), whole.split(split)[:count])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"a.txt": b""}, "holds no pictures; allowed endings are .bmp"),
    ({"train/0.png": b""}, "pictures for train only, train and test are needed"),
    ({"train/0.png": b"", "test/0.png": b"", "1.png": b""}, "1.png lies outside"),
    ({"0.png": b"", "1.png": b""}, "has 2 images; three splits need at least 3"),
    (
      {"train/0.png": b"", "test/0.png": b""},
      "training and validation need at least 2",
    ),
  ],
)
def test_unsound_collections(content, message, root, tmp_path):
  with pytest.raises(UserError, match=message):
    load(write(root, content), tmp_path)


def test_unsound_paths(tmp_path):
  (tmp_path / "a.zip").write_bytes(b"not a zip")
  with pytest.raises(UserError, match="neither a folder nor a sound zip"):
    load(str(tmp_path / "a.zip"), tmp_path)
  with pytest.raises(UserError, match="there is no such file or folder"):
    load(str(tmp_path / "b"), tmp_path)
  with pytest.raises(UserError, match=r"data.path is empty"):
    load("", tmp_path)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"size": -1}, "data.size is -1"),
    ({"fit": "pad"}, "data.fit is 'pad'; allowed are crop, stretch"),
    ({"bad_pictures": "mend"}, "data.bad_pictures is 'mend'; allowed are fail, skip"),
    ({"colour": True}, "option 'colour' is unknown to data.source 'images'"),
  ],
)
def test_unsound_options(options, message, tmp_path):
  path = write(tmp_path / "a", {f"{i}.png": picture(i) for i in range(4)})
  with pytest.raises(UserError, match=message):
    load(path, tmp_path, **options)


def test_options_of_other_sources_are_refused():
  with pytest.raises(
    UserError, match=r"option 'size' is unknown to data.source 'sklearn'"
  ):
    datasets.from_config(DataConfig(size=16))


# Geometry.


def ramp(height: int, width: int) -> Image.Image:
  """A picture whose red is the row and whose green is the column."""
  rows, columns = np.mgrid[:height, :width]
  array = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
  return Image.fromarray(array)


@given(st.integers(3, 20), st.integers(3, 20), st.integers(1, 3))
def test_crop_takes_the_middle(height: int, width: int, side: int):
  found = Geometry(crop=side).apply(ramp(height, width))
  top, left = (height - side) // 2, (width - side) // 2
  expected = np.asarray(ramp(height, width))[top : top + side, left : left + side]
  np.testing.assert_array_equal(found, expected)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_any_picture_gets_the_size(height: int, width: int, size: int, grey: bool):
  for fit in ("crop", "stretch"):
    found = Geometry(size=size, fit=fit, grey=grey).apply(ramp(height, width))
    assert found.shape == (size, size, 1 if grey else 3)
    assert found.dtype == np.uint8


def test_fit_keeps_the_middle_or_all():
  wide = ramp(10, 30)
  cropped = Geometry(size=10).apply(wide)
  np.testing.assert_array_equal(cropped, np.asarray(wide)[:, 10:20])
  stretched = Geometry(size=10, fit="stretch").apply(wide)
  assert stretched[0, 0, 1] <= 2
  assert stretched[0, -1, 1] >= 27


def test_too_small_to_crop(tmp_path):
  path = write(tmp_path / "a", {f"{i}.png": picture(i) for i in range(4)})
  with pytest.raises(UserError, match=r"is 6x4, too small for data.crop = 5"):
    load(path, tmp_path, crop=5)


@pytest.mark.parametrize(
  ("mode", "value", "expected"),
  [("L", 7, 7), ("RGBA", (7, 7, 7, 0), 7), ("I;16", 7 * 256 + 9, 7), ("1", 1, 255)],
)
def test_modes(mode, value, expected):
  for grey in (False, True):
    found = Geometry(grey=grey).apply(Image.new(mode, (2, 2), value))
    assert (found == expected).all()
    assert found.shape == (2, 2, 1 if grey else 3)


@pytest.mark.filterwarnings("error")
def test_palette_with_transparency():
  image = Image.new("P", (2, 2), 1)
  image.putpalette([0, 0, 0, 9, 9, 9])
  image.info["transparency"] = b"\x00\xff"
  assert (Geometry().apply(image) == 9).all()


def test_more_than_sixteen_bits():
  with pytest.raises(ValueError, match="mode F; allowed are 8 and 16 bits"):
    Geometry().apply(Image.new("F", (2, 2)))


def test_photographs_are_turned_upright(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by 90 degrees.
  content = {f"{i}.jpg": picture(i, (6, 4), form="JPEG", exif=exif) for i in range(4)}
  assert load(write(tmp_path / "a", content), tmp_path).image_shape == (4, 6, 3)


# Classes.


def test_labels_follow_their_pictures(root, tmp_path):
  content = {
    f"{s}/{c}/{i}.png": picture(20 * n + i)
    for s in ("train", "test")
    for n, c in enumerate(("cat", "dog", "eel"))
    for i in range(7)
  }
  path = write(root, content)
  data = DataConfig(name="toy", source="images", path=path, cache_dir=str(tmp_path))
  dataset, labels = datasets.from_config(data), datasets.labels_from_config(data)
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(labels[split], dataset.split(split)[:, 0, 0, 0] // 20)
    assert labels[split].dtype == np.int32


def test_labels_of_left_out_pictures_are_left_out(root, tmp_path):
  content = {f"{c}/{i}.png": picture(20 * c + i) for c in range(2) for i in range(9)}
  content |= {"0/4.png": b"broken", "1/7.png": b"broken"}
  data = DataConfig(
    name="toy",
    source="images",
    path=write(root, content),
    cache_dir=str(tmp_path),
    bad_pictures="skip",
  )
  dataset, labels = datasets.from_config(data), datasets.labels_from_config(data)
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(labels[split], dataset.split(split)[:, 0, 0, 0] // 20)


def test_labels_need_class_folders(tmp_path):
  path = write(tmp_path / "a", {f"{i}.png": picture(i) for i in range(5)})
  data = DataConfig(name="toy", source="images", path=path)
  with pytest.raises(UserError, match="labels need at least 2"):
    datasets.labels_from_config(data)


# Real files.


@pytest.mark.parametrize(
  ("name", "grey", "shape", "counts", "classes"),
  [
    ("celeba64_subset.zip", False, (64, 64, 3), (13334, 2666, 1476), 0),
    ("cifar10_jpeg_train.zip,cifar10_jpeg_test.zip", False, (32, 32, 3), None, 10),
    ("fer2013_48.zip", True, (48, 48, 1), (26917, 5383, 3587), 7),
  ],
)
def test_real_zips(real_data, tmp_path, caplog, name, grey, shape, counts, classes):
  paths = [real_data / part for part in name.split(",")]
  if not all(path.exists() for path in paths):
    pytest.skip(f"INFUSION_JAX_DATA has no {name}")
  data = DataConfig(
    name="real",
    source="images",
    path=",".join(map(str, paths)),
    cache_dir=str(tmp_path),
    grey=grey,
    max_images=50,
  )
  caplog.set_level(logging.WARNING)
  dataset = datasets.from_config(data)
  assert dataset.image_shape == shape
  assert [len(dataset.split(s)) for s in ("train", "validation", "test")] == [
    50,
    10,
    10,
  ]
  assert dataset.train.std() > 30
  assert not caplog.text
  if classes:
    labels = datasets.labels_from_config(data)
    assert len(np.unique(labels["train"])) == classes
  if counts:
    index = listing.index(str(paths[0]), 0)
    assert tuple(len(index[s]) for s in ("train", "validation", "test")) == counts


def test_most_images():
  assert splits.most_images(0) == {"train": None, "validation": None, "test": None}
  assert splits.most_images(3) == {"train": 3, "validation": 1, "test": 1}
