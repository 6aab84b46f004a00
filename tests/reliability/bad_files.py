"""Files that no reader can accept, each wrong in one way."""

import gzip
import io
import json
import pathlib
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

IDX_NAMES = {
  "train": "train-images-idx3-ubyte",
  "test": "t10k-images-idx3-ubyte",
  "train_labels": "train-labels-idx1-ubyte",
  "test_labels": "t10k-labels-idx1-ubyte",
}


class Trap:
  """An object whose unpickling would leave a file behind."""

  def __init__(self, path: pathlib.Path):
    self._path = str(path)

  def __reduce__(self):
    return open, (self._path, "w")


def idx(shape=(6, 4, 4), magic=2051, extra=b"") -> bytes:
  """An idx file of zeros."""
  count = int(np.prod(shape))
  return struct.pack(f">{1 + len(shape)}I", magic, *shape) + bytes(count) + extra


def png(height=4, width=4, mode="L") -> bytes:
  """A sound PNG file."""
  stream = io.BytesIO()
  Image.new(mode, (width, height), 7).save(stream, "PNG")
  return stream.getvalue()


def huge_png(side: int = 60_000) -> bytes:
  """A small file that says it is a picture of side x side pixels."""

  def chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc

  header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
  data = zlib.compress(bytes(1000))
  parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
  return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def npy(shape, dtype="|u1", content=b"") -> bytes:
  """An npy file whose header may say more than follows."""
  header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
  text = header.ljust(117).encode() + b"\n"
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def zipped(**members: bytes) -> bytes:
  """A zip file."""
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return stream.getvalue()


def lying_zip(name: str, content: bytes, size: int) -> bytes:
  """A zip file whose directory says that a member unpacks to `size` bytes."""
  data = bytearray(zipped(**{name: content}))
  entry = data.rindex(b"PK\x01\x02")
  data[entry + 24 : entry + 28] = struct.pack("<I", size)
  return bytes(data)


def make(folder: pathlib.Path) -> None:
  """Writes all of them."""
  folder.mkdir()
  (folder / "empty").mkdir()
  (folder / "empty_file").write_bytes(b"")
  (folder / "text.txt").write_text("dear reader")
  _make_idx(folder / "idx")
  _make_npz(folder / "npz", folder / "trap_npz")
  _make_npy(folder / "npy")
  _make_pictures(folder / "pictures")
  _make_masks(folder / "masks")
  _make_configs(folder / "configs")
  _make_code(folder / "code")
  _make_mat(folder / "mat")
  (folder / "letters").mkdir()
  (folder / "letters" / "letter.txt").write_text("dear")


def _make_idx(folder: pathlib.Path) -> None:
  good = idx()
  packed = gzip.compress(good)
  broken = {
    "no_test": {"train": good},
    "no_train": {"test": good},
    "magic": {"train": idx(magic=2052), "test": good},
    "labels_as_images": {"train": idx((96,), 2049), "test": good},
    "short": {"train": good[:-1], "test": good},
    "long": {"train": good + b"\0", "test": good},
    "header": {"train": good[:7], "test": good},
    "no_bytes": {"train": b"", "test": good},
    "no_images": {"train": idx((0, 4, 4)), "test": good},
    "one_image": {"train": idx((1, 4, 4)), "test": good},
    "no_pixels": {"train": idx((6, 0, 4)), "test": good},
    "other_size": {"train": good, "test": idx((6, 5, 4))},
    "truncated_gz": {"train": packed[:-9], "test": good},
    "bad_gz": {"train": packed[:20] + b"\xff\xff" + packed[22:], "test": good},
    "gz_magic_only": {"train": b"\x1f\x8b", "test": good},
    "lying": {"train": struct.pack(">4I", 2051, 2**31, 2**15, 2**15), "test": good},
    "bomb": {
      "train": gzip.compress(idx((2, 4, 4), extra=bytes(1 << 20))),
      "test": good,
    },
    "sound": {"train": idx((40, 4, 4)), "test": idx((6, 4, 4))},
    "short_labels": {
      "train": idx((40, 4, 4)),
      "test": good,
      "train_labels": idx((9,), 2049),
      "test_labels": idx((6,), 2049),
    },
    "label_magic": {
      "train": idx((40, 4, 4)),
      "test": good,
      "train_labels": idx((40,), 2051),
      "test_labels": idx((6,), 2049),
    },
    "one_class": {
      "train": idx((40, 4, 4)),
      "test": good,
      "train_labels": idx((40,), 2049),
      "test_labels": idx((6,), 2049),
    },
  }
  for name, files in broken.items():
    (folder / name).mkdir(parents=True)
    for part, content in files.items():
      (folder / name / IDX_NAMES[part]).write_bytes(content)


def _npz(**arrays) -> bytes:
  stream = io.BytesIO()
  np.savez(stream, **arrays)
  return stream.getvalue()


def _make_npy(folder: pathlib.Path) -> None:
  """Folders of mapped arrays, each with one thing wrong."""
  images = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4)
  trains = {
    "text": b"no array",
    "truncated": _npy(images)[:-9],
    "floats": _npy(images / 255),
    "flat": _npy(images.reshape(20, 16)),
    "no_test": _npy(images),
    "other_size": _npy(images),
  }
  for name, train in trains.items():
    (folder / name).mkdir(parents=True)
    (folder / name / "train.npy").write_bytes(train)
    test = np.zeros((20, 5, 4), np.uint8) if name == "other_size" else images
    if name != "no_test":
      (folder / name / "test.npy").write_bytes(_npy(test))


def _npy(array: np.ndarray) -> bytes:
  stream = io.BytesIO()
  np.save(stream, array)
  return stream.getvalue()


def _make_npz(folder: pathlib.Path, trap: pathlib.Path) -> None:
  folder.mkdir()
  images = np.zeros((20, 4, 4), np.uint8)
  wide = np.zeros((20, 4, 5), np.uint8)
  objects = np.array([Trap(trap)], object)
  good = _npz(images=images)
  contents = {
    "truncated": good[: len(good) // 2],
    "cut_end": good[:-30],
    "flipped": good[:300] + bytes([good[300] ^ 255]) + good[301:],
    "no_zip": b"dear reader",
    "no_keys": _npz(other=images),
    "only_train": _npz(train=images),
    "both": _npz(train=images, test=images, images=images),
    "floats": _npz(images=images / 255),
    "nan": _npz(images=np.full((20, 4, 4), np.nan)),
    "negative": _npz(images=images.astype(np.int32) - 1),
    "too_bright": _npz(images=images.astype(np.int32) + 256),
    "above_levels": _npz(images=images + 17, levels=17),
    "levels_0": _npz(images=images, levels=0),
    "levels_300": _npz(images=images, levels=300),
    "levels_list": _npz(images=images, levels=[17, 17]),
    "levels_text": _npz(images=images, levels="many"),
    "flat": _npz(images=images.reshape(20, 16)),
    "five_axes": _npz(images=images[..., None, None]),
    "no_images": _npz(images=images[:0]),
    "two_images": _npz(images=images[:2]),
    "no_pixels": _npz(images=images[:, :0]),
    "mixed": _npz(train=images, test=wide),
    "mixed_validation": _npz(train=images, validation=wide, test=images),
    "objects": _npz(images=objects),
    "text": _npz(images=np.array(["a", "b"])),
    "lying_shape": zipped(**{"images.npy": npy((10**9, 10**4, 10**4))}),
    "negative_shape": zipped(**{"images.npy": npy((-1, 4, 4))}),
    "no_npy": zipped(**{"images.npy": b"dear reader"}),
    "lying_size": lying_zip("images.npy", npy((20, 4, 4)), 0xFFFFFFF0),
    "bomb": zipped(**{"images.npy": npy((2, 4, 4), content=bytes(8 << 20))}),
    "code_in_header": zipped(**{"images.npy": npy("__import__('os').abort()")}),
    "tiny_set": _npz(images=np.zeros((10, 4, 4), np.uint8)),
    "bright": _npz(images=np.random.default_rng(0).integers(0, 256, (20, 4, 4))),
    "thin": _npz(images=np.zeros((20, 1, 1), np.uint8)),
  }
  for name, content in contents.items():
    (folder / f"{name}.npz").write_bytes(content)


def _make_pictures(folder: pathlib.Path) -> None:
  good = [(f"{i}.png", png()) for i in range(6)]
  folders = {
    "mixed": [*good, ("7.png", png(5, 4))],
    "broken": [*good, ("7.png", png()[:40])],
    "no_picture": [*good, ("7.png", b"dear reader")],
    "huge": [*good, ("7.png", huge_png())],
    "two": good[:2],
    "no_pictures": [("letter.txt", b"dear")],
    "only_test": [(f"test/{name}", content) for name, content in good],
    "outside": [*((f"train/{n}", c) for n, c in good), ("7.png", png())],
    "one_class": good,
    "not_square": [(f"{i}.png", png(4, 6)) for i in range(6)],
  }
  for name, files in folders.items():
    for file, content in files:
      path = folder / name / file
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(content)
  sound = zipped(**dict(good))
  zips = {
    "truncated": sound[: len(sound) // 2],
    "no_zip": b"PK\x03\x04 and nothing more",
    "none": zipped(),
    "letters": zipped(**{"letter.txt": b"dear"}),
    "bad_member": sound[:60] + bytes([sound[60] ^ 255]) + sound[61:],
    "lying": lying_zip("0.png", png(), 0xFFFFFFF0),
    "traversal": zipped(**{f"../../escaped_{i}.png": png()[:30] for i in range(6)}),
    "encrypted": _encrypted(sound),
  }
  for name, content in zips.items():
    (folder / f"{name}.zip").write_bytes(content)


def _encrypted(data: bytes) -> bytes:
  """The same zip, every member marked as encrypted."""
  data = bytearray(data)
  for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    at = data.find(mark)
    while at >= 0:
      data[at + offset] |= 1
      at = data.find(mark, at + 4)
  return bytes(data)


def _make_masks(folder: pathlib.Path) -> None:
  folder.mkdir()
  half = np.zeros((8, 8), np.uint8)
  half[:4] = 255
  masks = {"half": half, "white": half * 0 + 255, "black": half * 0}
  for name, mask in masks.items():
    Image.fromarray(mask).save(folder / f"{name}.png")
  Image.fromarray(np.pad(half, ((0, 0), (3, 3)))).save(folder / "other_size.png")
  Image.fromarray(np.zeros((8, 8), np.float32), "F").save(folder / "floats.tif")
  sound = (folder / "half.png").read_bytes()
  (folder / "truncated.png").write_bytes(sound[:-30])
  (folder / "text.png").write_text("dear reader")
  (folder / "huge.png").write_bytes(huge_png())
  (folder / "empty.png").write_bytes(b"")


def _make_code(folder: pathlib.Path) -> None:
  folder.mkdir()
  (folder / "raises.py").write_text('raise ValueError("a bad day")\n')
  (folder / "networks.py").write_text(
    "import flax.linen as nn\nfrom infusion_jax.gaussian import Gaussian\n"
    "class Flat(nn.Module):\n  def __call__(self, z, time, train):\n"
    "    return Gaussian(z.mean((1, 2, 3)), z.mean((1, 2, 3)))\n"
  )


def _make_configs(folder: pathlib.Path) -> None:
  folder.mkdir()
  texts = {
    "syntax": "def get_config(:\n",
    "none": "x = 1\n",
    "raises": "def get_config():\n  raise RuntimeError('no such thing')\n",
    "imports": "import no_such_module\ndef get_config(): pass\n",
    "number": "def get_config():\n  return 7\n",
    "dictionary": "def get_config():\n  return {'train': {'seed': 1}}\n",
    "section": (
      "import ml_collections\ndef get_config():\n"
      "  return ml_collections.ConfigDict({'training': {'seed': 1}})\n"
    ),
    "flat": (
      "import ml_collections\ndef get_config():\n"
      "  return ml_collections.ConfigDict({'train': 5})\n"
    ),
    "no_runs": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = []\n  return c\n"
    ),
    "runs_no_list": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = 5\n  return c\n"
    ),
    "runs_of_numbers": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = [5]\n  return c\n"
    ),
    "run_key": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = [{'chain.omgea': 0.1}]\n  return c\n"
    ),
    "run_flat_key": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = [{'omega': 0.1}]\n  return c\n"
    ),
    "run_value": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = [{'chain.omega': 'fast'}]\n  return c\n"
    ),
    "run_rate": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = [{'chain.omega': 0.5}]\n  return c\n"
    ),
    "sound_sweep": (
      "import ml_collections\nfrom configs import digits\ndef get_config():\n"
      "  c = ml_collections.ConfigDict()\n  c.base = digits.get_config()\n"
      "  c.runs = [{'chain.omega': 0.05}]\n  return c\n"
    ),
  }
  for name, text in texts.items():
    (folder / f"{name}.py").write_text(text)
  (folder / "data.json").write_text(json.dumps({"train": {"seed": 1}}))


def _make_mat(folder: pathlib.Path) -> None:
  from scipy import io as matlab

  folder.mkdir()
  images = np.zeros((20, 4, 4), np.uint8)
  files = {
    "no_images": {"pictures": images},
    "floats": {"images": images / 255},
    "flat": {"images": images.reshape(20, 16)},
    "negative": {"images": images.astype(np.int16) - 1},
    "folds": {"images": images, "folds": np.ones((20, 2), np.uint8)},
    "no_test": {"images": images, "folds": np.ones((20, 5), np.uint8)},
  }
  for name, arrays in files.items():
    matlab.savemat(folder / f"{name}.mat", arrays)
  (folder / "text.mat").write_text("dear reader")
  sound = (folder / "folds.mat").read_bytes()
  (folder / "truncated.mat").write_bytes(sound[:200])
