import io
import pathlib
import tempfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infusion_jax import datasets
from infusion_jax.datasets import npz
from infusion_jax.errors import UserError

IMAGES = np.arange(12 * 6, dtype=np.uint8).reshape(12, 2, 3, 1)


def load(content: bytes) -> datasets.Dataset:
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "images.npz"
    path.write_bytes(content)
    return datasets.load("toy", "npz", str(path))


def pack(compress: bool = False, **arrays) -> bytes:
  stream = io.BytesIO()
  (np.savez_compressed if compress else np.savez)(stream, **arrays)
  return stream.getvalue()


@settings(deadline=None)
@given(
  hnp.arrays(
    st.sampled_from(["u1", "i1", "<i4", ">i8", "<u2"]),
    hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=5).filter(
      lambda shape: shape[0] > 1
    ),
    elements=st.integers(0, 127),
  ),
  st.booleans(),
  st.booleans(),
)
def test_round_trip(images: np.ndarray, compress: bool, fortran: bool):
  stored = np.asfortranarray(images) if fortran else images
  dataset = load(pack(compress, train=stored, validation=stored, test=stored))
  expected = images if images.ndim == 4 else images[..., None]
  for split in ("train", "validation", "test"):
    found = dataset.split(split)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_validation_is_carved_from_training():
  dataset = load(pack(train=IMAGES, test=IMAGES[:3]))
  np.testing.assert_array_equal(dataset.train, IMAGES[:10])
  np.testing.assert_array_equal(dataset.validation, IMAGES[10:])
  np.testing.assert_array_equal(dataset.test, IMAGES[:3])


def test_images_alone_are_split():
  dataset = load(pack(images=IMAGES))
  parts = [dataset.train, dataset.validation, dataset.test]
  assert [len(part) for part in parts] == [7, 2, 3]
  found = np.concatenate(parts)
  np.testing.assert_array_equal(found[np.argsort(found[:, 0, 0, 0])], IMAGES)


def test_levels_and_foreign_arrays():
  labels = np.array(["a", "b"], dtype=object)
  content = pack(train=IMAGES % 17, test=IMAGES % 17, levels=17, labels=labels)
  assert load(content).levels == 17


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"train": IMAGES}, "has train; allowed are 'train' and 'test'"),
    ({"x_train": IMAGES}, "has none of them; allowed are 'train' and 'test'"),
    ({"train": IMAGES, "test": IMAGES, "images": IMAGES}, "has train, test, images"),
    ({"images": IMAGES / 256}, "'images' has dtype float64; .*integer pixels"),
    ({"images": IMAGES > 3}, "'images' has dtype bool; allowed are integers"),
    ({"images": IMAGES.astype(object)}, "'images' has dtype object"),
    ({"images": IMAGES.astype(int) - 1}, "values from -1 to 70; .* 0 to 255"),
    ({"images": IMAGES.astype(int) * 9}, "values from 0 to 639; .* 0 to 255"),
    ({"images": IMAGES, "levels": 17}, "values from 0 to 71; .* 0 to 16"),
    ({"images": IMAGES, "levels": 300}, "levels is 300; allowed are 2 to 256"),
    ({"images": IMAGES, "levels": np.array([2, 3])}, "levels has shape"),
    ({"images": IMAGES, "levels": 17.0}, "'levels' has dtype float64"),
    ({"images": IMAGES[0, 0]}, r"'images' has shape \(3, 1\)"),
    ({"images": IMAGES[:0]}, "at least one image"),
    ({"images": IMAGES[:2]}, "has 2 images; three splits need at least 3"),
    ({"train": IMAGES[:1], "test": IMAGES}, "has 1 images; training and validation"),
    ({"train": IMAGES, "test": IMAGES[:, :1]}, "all splits must agree"),
  ],
)
def test_unsound_arrays(arrays: dict, message: str):
  with pytest.raises(UserError, match=message):
    load(pack(**arrays))


def test_pickles_are_never_loaded():
  class Bomb:
    def __reduce__(self):
      return (pytest.fail, ("a pickle was loaded",))

  content = pack(images=np.array([Bomb()], dtype=object))
  with pytest.raises(UserError, match=r"dtype object"):
    load(content)


def member(data: bytes, **options) -> bytes:
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w", **options) as archive:
    archive.writestr("images.npy", data)
  return stream.getvalue()


def npy(shape: tuple[int, ...], payload: bytes) -> bytes:
  stream = io.BytesIO()
  header = {"descr": "|u1", "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(stream, header)
  return stream.getvalue() + payload


@pytest.mark.parametrize(
  "shape", [(10**12, 28, 28), (3, 2, 2, 2), (3, 2, 1), (-3, -2, 2), (-3, 2, 2), ()]
)
def test_headers_are_not_believed(shape: tuple[int, ...]):
  with pytest.raises(UserError, match=r"npz file .*images"):
    load(member(npy(shape, bytes(12))))


def test_other_compression_is_refused():
  content = member(npy((3, 2, 2), bytes(12)), compression=zipfile.ZIP_BZIP2)
  with pytest.raises(UserError, match=r"use deflate"):
    load(content)


def test_not_a_zip_file():
  with pytest.raises(UserError, match=r"npz file .* cannot be read"):
    load(b"not a zip file")


@pytest.mark.filterwarnings("ignore")  # zipfile and NumPy may grumble first.
@settings(deadline=None, max_examples=400)
@given(st.data())
def test_damaged_files_are_refused(data: st.DataObject):
  content = pack(data.draw(st.booleans()), train=IMAGES, test=IMAGES, levels=80)
  position = data.draw(st.integers(0, len(content) - 1))
  length = data.draw(st.sampled_from([0, 1, 2, len(content)]))
  patch = data.draw(st.binary(max_size=4))
  content = content[:position] + patch + content[position + length :]
  try:
    dataset = load(content)
  except UserError:
    return
  # What is left out of the check sum does not change pixels.
  np.testing.assert_array_equal(dataset.test, IMAGES)


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_random_arrays_are_refused(content: bytes):
  for data in (content, b"\x93NUMPY\x01\x00" + content):
    with pytest.raises(UserError):
      load(member(data))


def test_save_is_read_back():
  dataset = load(pack(train=IMAGES, test=IMAGES, levels=80))
  stream = io.BytesIO()
  npz.save(stream, dataset)
  again = load(stream.getvalue())
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(again.split(split), dataset.split(split))
  assert again.levels == 80


def test_labels_are_split_as_their_images(tmp_path):
  images = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((10, 2, 2), np.uint8)
  path = tmp_path / "x.npz"
  np.savez(path, images=images, labels=np.arange(10))
  found, told = npz.load("x", str(path)), npz.labels("x", str(path))
  for split in ("train", "validation", "test"):
    np.testing.assert_array_equal(found.split(split)[:, 0, 0, 0], told[split])
  np.savez(
    path, train=images, test=images[:3], train_labels=range(10), test_labels=[5] * 3
  )
  told = npz.labels("x", str(path))
  np.testing.assert_array_equal(told["train"], np.arange(9))
  np.testing.assert_array_equal(told["validation"], [9])
  assert told["test"].dtype == np.int32


def test_missing_labels_are_told(tmp_path):
  path = tmp_path / "x.npz"
  np.savez(path, images=np.zeros((3, 2, 2), np.uint8))
  with pytest.raises(
    UserError, match=r"has no labels; allowed are labels, test_labels"
  ):
    npz.labels("x", str(path))
  np.savez(path, labels=np.zeros((3, 2), int))
  with pytest.raises(UserError, match=r"\(3, 2\); allowed is \[N\]"):
    npz.labels("x", str(path))
