import gzip
import pathlib
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infusion_jax import datasets
from infusion_jax.datasets import idx
from infusion_jax.errors import UserError

IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))


def encode(images: np.ndarray) -> bytes:
  return struct.pack(">4I", 2051, *images.shape) + images.tobytes()


def read(content: bytes, name: str = "train-images-idx3-ubyte") -> np.ndarray:
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / name
    path.write_bytes(content)
    return idx.read_images(path)


@settings(deadline=None)
@given(IMAGES, st.booleans(), st.sampled_from(["images", "images.gz"]))
def test_round_trip(images: np.ndarray, compress: bool, name: str):
  content = encode(images)
  found = read(gzip.compress(content) if compress else content, name)
  np.testing.assert_array_equal(found, images[..., None])


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_files_are_refused_or_read_whole(data: st.DataObject):
  """One changed, missing or added byte never ends in anything but UserError."""
  images = data.draw(IMAGES)
  content = encode(images)
  if data.draw(st.booleans()):
    content = gzip.compress(content, mtime=0)
  position = data.draw(st.integers(0, len(content) - 1))
  patch = data.draw(st.binary(max_size=3))
  content = content[:position] + patch + content[position + 1 :]
  try:
    found = read(content)
  except UserError:
    return
  # Pixels, and the header of gzip, may change without a reader's knowledge.
  assert found.size == images.size


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=64), st.sampled_from([b"", b"\x1f\x8b", b"\0\0\x08\x03"]))
def test_random_bytes_are_refused(content: bytes, start: bytes):
  try:
    found = read(start + content)
  except UserError:
    return
  assert start + content == encode(found[..., 0])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
  ("content", "message"),
  [
    (struct.pack(">2I", 2049, 60_000) + bytes(100), "number is 2049, .* has 2051"),
    (b"\0\0\x08\x03", "header has 4 bytes"),
    (b"", "header has 0 bytes"),
    (struct.pack(">4I", 2051, 0, 28, 28), "dimensions are 0 x 28 x 28"),
    (struct.pack(">4I", 2051, 2, 2, 2) + bytes(7), "need 8 bytes, but 7 bytes follow"),
    (struct.pack(">4I", 2051, 2, 2, 2) + bytes(9), "need 8 bytes, but more follow"),
    (struct.pack(">4I", 2051, *[2**32 - 1] * 3) + bytes(9), "the whole file has"),
  ],
)
def test_unsound_contents(content: bytes, message: str, compress: bool):
  with pytest.raises(UserError, match=f"idx file .*images-idx3-ubyte.*{message}"):
    read(gzip.compress(content) if compress else content)


def test_truncated_gzip():
  content = gzip.compress(encode(np.zeros((9, 9, 9), np.uint8)))
  with pytest.raises(UserError, match=r"cannot be read"):
    read(content[:-6])


def test_trailing_gzip_garbage():
  content = gzip.compress(encode(np.zeros((9, 9, 9), np.uint8)))
  with pytest.raises(UserError, match=r"cannot be read"):
    read(content + b"garbage")


def test_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch):
  """Of a megabyte behind a header for eight bytes, only a ninth byte is read."""
  sizes = []
  read_at_most = idx.paths.read_at_most

  def recorded(stream, limit):
    data = read_at_most(stream, limit)
    sizes.append(len(data))
    return data

  monkeypatch.setattr(idx.paths, "read_at_most", recorded)
  bomb = gzip.compress(struct.pack(">4I", 2051, 2, 2, 2) + bytes(1 << 20))
  with pytest.raises(UserError, match=r"more follow"):
    read(bomb)
  assert sizes == [9]


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_folder(tmp_path: pathlib.Path, separator: str, ending: str):
  images = np.arange(12 * 6, dtype=np.uint8).reshape(12, 2, 3)
  for part, content in (("train", images), ("t10k", images[:5])):
    data = encode(content)
    file = tmp_path / f"{part}-images{separator}idx3-ubyte{ending}"
    file.write_bytes(gzip.compress(data) if ending else data)
  dataset = datasets.load("toy", "idx", str(tmp_path))
  np.testing.assert_array_equal(dataset.train, images[:10, ..., None])
  np.testing.assert_array_equal(dataset.validation, images[10:, ..., None])
  np.testing.assert_array_equal(dataset.test, images[:5, ..., None])
  assert dataset.levels == 256


def test_missing_file_lists_the_names(tmp_path: pathlib.Path):
  (tmp_path / "train-images-idx3-ubyte").write_bytes(
    encode(np.zeros((6, 2, 2), np.uint8))
  )
  with pytest.raises(UserError, match=r"no t10k images, .*t10k-images-idx3-ubyte.gz"):
    datasets.load("toy", "idx", str(tmp_path))


def test_splits_of_different_shapes(tmp_path: pathlib.Path):
  for part, side in (("train", 2), ("t10k", 3)):
    (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(
      encode(np.zeros((6, side, side), np.uint8))
    )
  with pytest.raises(UserError, match=r"split 'test' has images of shape"):
    datasets.load("toy", "idx", str(tmp_path))


def test_mnist(real_data: pathlib.Path):
  folder = real_data / "mnist"
  mnist = datasets.load("mnist", "idx", str(folder))
  assert mnist.train.shape == (50_000, 28, 28, 1)
  assert mnist.validation.shape == (10_000, 28, 28, 1)
  assert mnist.test.shape == (10_000, 28, 28, 1)
  with gzip.open(folder / "train-images-idx3-ubyte.gz") as stream:
    whole = np.frombuffer(stream.read()[16:], np.uint8).reshape(60_000, 28, 28, 1)
  np.testing.assert_array_equal(mnist.validation, whole[-10_000:])
  np.testing.assert_array_equal(mnist.train, whole[:50_000])
  # The well-known mean and deviation of the 60,000 training images.
  assert whole.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
  assert whole.std() / 255 == pytest.approx(0.3081, abs=1e-4)


def test_labels_in_place_of_images(real_data: pathlib.Path):
  with pytest.raises(UserError, match=r"magic number is 2049, an image file has 2051"):
    idx.read_images(real_data / "mnist" / "train-labels-idx1-ubyte.gz")
