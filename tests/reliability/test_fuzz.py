"""Any bytes whatever: the readers return something valid or raise a UserError."""

import contextlib
import gzip
import io
import os
import struct
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from reliability import bad_files

from infusion_jax.datasets import Dataset, idx, images, npz
from infusion_jax.errors import UserError
from infusion_jax.views import inpainting

#: Examples of each test; INFUSION_JAX_FUZZ=100 makes them a hundred times as many.
EXAMPLES = 150 * int(os.environ.get("INFUSION_JAX_FUZZ", "1"))


def fuzz(*strategies):
  """Runs a test on many inputs."""

  def decorate(test):
    return hypothesis.settings(
      max_examples=EXAMPLES,
      suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    )(hypothesis.given(*strategies)(test))

  return decorate


def damaged(sound: bytes):
  """A sound file, some of whose bytes were changed, cut out or put in."""
  change = st.tuples(
    st.integers(0, len(sound) - 1), st.sampled_from("scid"), st.binary(max_size=4)
  )

  def apply(changes):
    data = bytearray(sound)
    for place, kind, new in changes:
      if kind == "s":
        data[place : place + len(new)] = new
      elif kind == "c":
        del data[place:]
      elif kind == "i":
        data[place:place] = new
      else:
        del data[place : place + len(new)]
    return bytes(data)

  return st.lists(change, min_size=1, max_size=4).map(apply)


def _npz(**arrays) -> bytes:
  stream = io.BytesIO()
  np.savez(stream, **arrays)
  return stream.getvalue()


def _npz_small() -> bytes:
  stream = io.BytesIO()
  np.savez_compressed(stream, train=_PIXELS, test=_PIXELS, levels=np.array(17))
  return stream.getvalue()


def _jpeg() -> bytes:
  stream = io.BytesIO()
  Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "JPEG")
  return stream.getvalue()


_PIXELS = np.arange(12 * 4 * 4, dtype=np.uint8).reshape(12, 4, 4) % 17
_IDX = struct.pack(">4I", 2051, 12, 4, 4) + _PIXELS.tobytes()
_LABELS = struct.pack(">2I", 2049, 12) + bytes(range(12))
_NPZ = _npz(images=_PIXELS, levels=np.array(17))
_ZIP = bad_files.zipped(**{f"{i}.png": bad_files.png() for i in range(4)})


def checked(dataset: Dataset) -> None:
  """A data set keeps its promises."""
  for split in ("train", "validation", "test"):
    found = dataset.split(split)
    assert found.dtype == np.uint8 and found.ndim == 4 and found.size
    assert found.max() < dataset.levels


@pytest.mark.parametrize("kind", ["plain", "gz"])
def test_idx_images(kind, tmp_path):
  sound = _IDX if kind == "plain" else gzip.compress(_IDX)
  path = tmp_path / "images"

  @fuzz(st.one_of(damaged(sound), st.binary(max_size=200)))
  def run(data):
    path.write_bytes(data)
    try:
      found = idx.read_images(path)
    except UserError:
      return
    assert found.dtype == np.uint8 and found.ndim == 4 and found.size
    assert found.nbytes <= 1032 * len(data)

  run()


@fuzz(damaged(_LABELS))
def test_idx_labels(tmp_path, data):
  (tmp_path / "labels").write_bytes(data)
  try:
    found = idx.read_labels(tmp_path / "labels")
  except UserError:
    return
  assert found.dtype == np.int32 and found.ndim == 1 and found.size


@pytest.mark.parametrize("kind", ["stored", "deflated"])
def test_npz(kind, tmp_path):
  sound = _NPZ if kind == "stored" else _npz_small()
  path = tmp_path / "data.npz"

  @fuzz(st.one_of(damaged(sound), st.binary(max_size=200)))
  def run(data):
    path.write_bytes(data)
    try:
      checked(npz.load("fuzzed", str(path)))
    except UserError:
      return

  run()


@fuzz(
  st.text(alphabet="0123456789()[]{}'<>|biufOVSUM,-: .ecdrshapfotn_", max_size=80),
  st.binary(max_size=64),
)
def test_npz_whose_header_is_anything(tmp_path, text, content):
  header = text.encode().ljust(80) + b"\n"
  member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content
  path = tmp_path / "data.npz"
  path.write_bytes(bad_files.zipped(**{"images.npy": member}))
  try:
    checked(npz.load("fuzzed", str(path)))
  except UserError:
    return


@fuzz(
  st.tuples(*3 * [st.integers(-2, 2**40)]),
  st.sampled_from(["|u1", "<i8", "|O", "<f4", "|S9", "<U3", "|V7", "<M8[s]"]),
  st.binary(max_size=64),
)
def test_npz_whose_header_lies(tmp_path, shape, dtype, content):
  path = tmp_path / "data.npz"
  member = bad_files.npy(shape, dtype, content)
  path.write_bytes(bad_files.zipped(**{"images.npy": member}))
  try:
    checked(npz.load("fuzzed", str(path)))
  except UserError:
    return


@fuzz(damaged(_ZIP))
def test_zips_of_pictures(tmp_path, data):
  path = tmp_path / "pictures.zip"
  path.write_bytes(data)
  try:
    checked(images.load("fuzzed", str(path), cache_dir=str(tmp_path / "cache")))
  except UserError:
    return


def test_a_member_without_a_name_is_passed_over(tmp_path):
  path = tmp_path / "pictures.zip"
  with zipfile.ZipFile(path, "w") as archive:
    for name in ("", "a.png", "b.png", "c.png", "d.png"):
      archive.writestr(zipfile.ZipInfo(name), bad_files.png())
  found = images.load("zip", str(path), cache_dir=str(tmp_path / "cache"))
  assert len(found.train) + len(found.validation) + len(found.test) == 4


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@fuzz(st.lists(_NAMES, min_size=4, max_size=6, unique=True))
def test_zips_whose_members_have_any_names(tmp_path, names):
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w") as archive:
    for name in names:
      archive.writestr(f"{name}.png", bad_files.png())
  inside = tmp_path / "inside"
  inside.mkdir(exist_ok=True)
  (inside / "pictures.zip").write_bytes(stream.getvalue())
  with contextlib.suppress(UserError):
    checked(
      images.load("fuzzed", str(inside / "pictures.zip"), cache_dir=str(inside / "c"))
    )
  # Nothing was unpacked, inside or outside.
  assert {p.name for p in tmp_path.iterdir()} == {"inside"}
  assert {p.name for p in inside.iterdir()} <= {"pictures.zip", "c"}


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bytes"])
def test_masks_and_pictures(kind, tmp_path):
  sound = {"png": bad_files.png(8, 8), "jpeg": _jpeg(), "bytes": b"\x89PNG\r\n\x1a\n"}
  stream = io.BytesIO()
  Image.new("P", (8, 8)).save(stream, "GIF")
  data_of = sound | {"gif": stream.getvalue()}
  path = tmp_path / "mask.png"

  @fuzz(st.one_of(damaged(data_of[kind]), st.binary(max_size=60)))
  def run(data):
    path.write_bytes(data)
    with contextlib.suppress(UserError):
      known = inpainting.read_mask(path, (8, 8, 1))
      assert known.shape == (8, 8) and known.dtype == bool
      assert known.any() and not known.all()
    with contextlib.suppress(UserError):
      image = inpainting.read_image(path, (8, 8, 1), 17)
      assert image.shape == (8, 8, 1) and image.min() >= 0 and image.max() < 1

  run()
