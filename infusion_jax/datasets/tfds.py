"""Data sets prepared by tensorflow_datasets, read without TensorFlow.

This is the only module that imports tensorflow_datasets.
"""

import dataclasses
import hashlib
import logging
import os
import pathlib
import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from infusion_jax.datasets import cache, paths, splits
from infusion_jax.datasets.dataset import SPLITS, Dataset
from infusion_jax.datasets.geometry import Geometry
from infusion_jax.errors import UserError
from infusion_jax.terminal.counting import counter

FILE_FORMAT = "array_record"
# Records are decoded so many at a time: five times faster than one by one.
_CHUNK = 1000
# tfds stores examples sorted by a hash of their keys. In these data sets the key
# is the position in the official file, so the official order can be restored,
# and "the last 10,000 of the training file" means the same images everywhere.
_KEYED_BY_POSITION = ("mnist", "fashion_mnist", "kmnist")
_NAME = re.compile(r"(?P<base>\w+(/[\w.+-]*\w)?)(:(?P<version>\d+\.\d+\.\d+))?")
_INFO = "dataset_info.json"


def load(
  name: str,
  path: str | None = None,
  *,
  cache_dir: str | None = None,
  crop: int = 0,
  size: int = 0,
  fit: str = "crop",
  grey: bool = False,
) -> Dataset:
  """Loads a data set that `experiments.prepare_data` has prepared.

  Any data set with an `image` feature will do, of one shape if `size` is 0. The
  usual 64x64 faces are celeb_a's with crop = 140 and size = 64. Its `validation`
  split is used where it has one, else the last sixth of `train`, at most 10,000
  images. MNIST and its replacements come in the order of their official files,
  the others in the order in which tfds stores them. Decoded arrays are cached.

  Args:
    name: Name in tfds: "mnist", "emnist/letters" or "mnist:3.0.1".
    path: tfds's data folder, or the prepared folder itself; by default
      `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
    cache_dir: Where decoded arrays are kept; see `cache.default_dir`.
    crop: See `geometry.Geometry`; if it, `size` and `grey` are left alone, images
      are taken as they are.
    size: See `geometry.Geometry`.
    fit: See `geometry.Geometry`.
    grey: See `geometry.Geometry`.

  Returns:
    Images uint8 [N, H, W, C] with 256 levels.

  Raises:
    UserError: The data are not prepared, damaged, or not images; nothing is
      downloaded.
  """
  geometry = Geometry(crop, size, fit, grey)
  plain = geometry == Geometry(fit=fit)
  folder = find_prepared(name, data_dir(path))
  sources = [file for file in folder.iterdir() if file.is_file()]
  dataset = cache.load_or_build(
    name if plain else f"{name} {geometry}",
    sources,
    lambda: _decode(name, folder, None if plain else geometry),
    cache_dir=cache_dir,
  )
  return dataclasses.replace(dataset, name=name)


def labels(
  name: str,
  path: str | None = None,
  *,
  cache_dir: str | None = None,
  crop: int = 0,
  size: int = 0,
  fit: str = "crop",
  grey: bool = False,
) -> dict[str, np.ndarray]:
  """Reads the `label` feature of the images that `load` returns.

  Args:
    name: As for `load`.
    path: As for `load`.
    cache_dir: Not used; labels need no decoding. Nor are the other arguments.
    crop: Not used.
    size: Not used.
    fit: Not used.
    grey: Not used.

  Returns:
    By split, int32 [N].

  Raises:
    UserError: The data have no such feature, or what `load` raises.
  """
  del cache_dir, crop, size, fit, grey
  folder = find_prepared(name, data_dir(path))
  return _read_splits(name, folder, "label", lambda label: np.int32(label))


def data_dir(path: str | None) -> pathlib.Path:
  """Returns the given folder, or else the one where tfds keeps its data."""
  chosen = path or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  return pathlib.Path(chosen).expanduser()


def find_prepared(name: str, root: pathlib.Path) -> pathlib.Path:
  """Returns the folder of the newest prepared version of a data set.

  Args:
    name: Name in tfds, with configuration and version where needed.
    root: The data folder, or the prepared folder itself.

  Returns:
    The folder that holds `dataset_info.json`.

  Raises:
    UserError: The name is not one of tfds, or the data are not prepared.
  """
  base, version = parse_name(name)
  if (root / _INFO).is_file():
    return root
  folder = root / base
  versions = {_version_key(f): f for f in folder.glob(f"{version or '*'}/{_INFO}")}
  # An interrupted preparation leaves a folder like incomplete.ABC_3.0.1 behind.
  versions.pop(None, None)
  if versions:
    return versions[max(versions)].parent
  configs = sorted({f.parent.parent.name for f in folder.glob(f"*/*/{_INFO}")})
  if configs:
    choices = ", ".join(f"{base}/{config}" for config in configs)
    raise UserError(f"data.name is {name!r}; {folder} holds {choices}")
  raise UserError(
    f"tfds dataset {name!r}: there are no prepared data in {folder}; run"
    f" python -m experiments.prepare_data --dataset={name} --data_dir={root}"
  )


def parse_name(name: str) -> tuple[str, str | None]:
  """Returns the name with its configuration, and the version if one is given.

  Raises:
    UserError: It does not look like a name in tfds.
  """
  match = _NAME.fullmatch(name)
  if not match:
    raise UserError(
      f"tfds dataset {name!r}: names look like mnist, emnist/letters or mnist:3.0.1"
    )
  return match["base"], match["version"]


def import_tfds() -> types.ModuleType:
  """Imports tensorflow_datasets.

  Raises:
    UserError: It or something it needs is not installed.
  """
  try:
    import array_record  # noqa: F401 (tfds would miss it much later)
    import tensorflow_datasets

    # tfds imports its parts on first use and hides why that failed.
    tensorflow_datasets.builder_from_directory  # noqa: B018
  except (ImportError, AttributeError) as error:
    raise UserError(
      "data.source is 'tfds'; it needs the packages tensorflow_datasets,"
      f" array_record and importlib_resources ({paths.one_line(error)})"
    ) from error
  logging.getLogger("absl").addFilter(_is_news)
  return tensorflow_datasets


def _is_news(record: logging.LogRecord) -> bool:
  """Not so: that pictures are decoded by Pillow, which this project needs anyway."""
  return not record.getMessage().startswith("OpenCV is not installed")


def _version_key(info: pathlib.Path) -> tuple[int, ...] | None:
  version = info.parent.name
  if not re.fullmatch(r"\d+\.\d+\.\d+", version):
    return None
  return tuple(int(number) for number in version.split("."))


def _decode(name: str, folder: pathlib.Path, geometry: Geometry | None) -> Dataset:
  def prepare(image: np.ndarray) -> np.ndarray:
    if geometry is None:
      return image
    return geometry.apply(Image.fromarray(np.squeeze(image)))

  return Dataset(name, **_read_splits(name, folder, "image", prepare))


def _read_splits(
  name: str,
  folder: pathlib.Path,
  feature: str,
  prepare: Callable[[np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
  """Returns a feature of every example, by split: [N, ...] of what `prepare` gives."""
  module = import_tfds()
  try:
    builder = module.builder_from_directory(folder, file_format=FILE_FORMAT)
    _check_builder(builder, name, folder, feature)
    rows = {
      split: _read_split(builder, split, feature, prepare)
      for split in SPLITS
      if split in builder.info.splits
    }
  except UserError:
    raise
  # tfds, protobuf, riegeli and PIL each have their own ways to fail on bad files.
  except Exception as error:
    raise UserError(
      f"tfds folder {folder}: cannot be read ({paths.one_line(error)})"
    ) from error
  if "validation" not in rows:
    rows["train"], rows["validation"] = splits.carve_validation(
      rows["train"], f"tfds folder {folder}: split 'train'"
    )
  return rows


def _check_builder(builder: Any, name: str, folder: pathlib.Path, feature: str) -> None:
  base, version = parse_name(name)
  found = f"{builder.name}:{builder.version}"
  wanted = base.split("/")[0]
  if builder.name != wanted or version not in (None, str(builder.version)):
    raise UserError(f"data.name is {name!r}; the folder {folder} holds {found}")
  for split in ("train", "test"):
    if split not in builder.info.splits:
      raise UserError(
        f"tfds folder {folder}: splits are {', '.join(builder.info.splits)}; train"
        " and test are needed"
      )
    for file in builder.info.splits[split].filenames:
      if not (folder / file).is_file():
        raise UserError(f"tfds folder {folder}: the file {file} is missing")
  if feature not in builder.info.features:
    raise UserError(
      f"tfds folder {folder}: features are {', '.join(builder.info.features)}; a"
      f" feature named {feature} is needed"
    )


def _read_split(
  builder: Any,
  split: str,
  feature: str,
  prepare: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
  """Returns the rows of one split, [N, ...], in the order to be kept."""
  # Decodes only the pictures that were asked for.
  skip = import_tfds().decode.SkipDecoding()
  decoders = None if feature == "image" else {"image": skip}
  source = builder.as_data_source(split=split, decoders=decoders)
  count = len(source)
  if count == 0:
    raise UserError(f"tfds folder {builder.data_path}: split {split!r} is empty")
  first = prepare(source[0][feature])
  rows = np.empty((count, *first.shape), first.dtype)
  what = f"reading {feature}s of {builder.name} {split}"
  with counter(count, what, feature) as progress:
    for start in range(0, count, _CHUNK):
      positions = list(range(start, min(start + _CHUNK, count)))
      for position, example in zip(
        positions, source.__getitems__(positions), strict=True
      ):
        row = prepare(example[feature])
        rows[position] = _same_shape(row, first, builder, split)
      progress.update(len(positions))
  if builder.name in _KEYED_BY_POSITION and not builder.info.disable_shuffling:
    rows[_stored_positions(split, count)] = rows.copy()
  return rows


def _same_shape(
  image: np.ndarray, first: np.ndarray, builder: Any, split: str
) -> np.ndarray:
  """Returns the image; assignment alone would broadcast a smaller one."""
  if image.shape != first.shape or image.dtype != first.dtype:
    raise UserError(
      f"tfds folder {builder.data_path}: split {split!r} mixes images of"
      f" {first.dtype} {first.shape} and {image.dtype} {image.shape}; all must be"
      " of one shape"
    )
  return image


def _stored_positions(split: str, count: int) -> np.ndarray:
  """Returns where in the official file each stored example comes from, [count].

  tfds sorts by the md5 of the split's name followed by the key, a rule that its
  data set versions guarantee.
  """

  def digest(key: int) -> bytes:
    return hashlib.md5(f"{split}{key}".encode(), usedforsecurity=False).digest()

  return np.array(sorted(range(count), key=digest))
