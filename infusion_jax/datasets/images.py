"""Folders and zips of pictures: everybody's own, and sets that come as files."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tqdm
from PIL import Image, ImageOps, UnidentifiedImageError

from infusion_jax.datasets import cache, paths, splits
from infusion_jax.datasets.dataset import SPLITS, Dataset
from infusion_jax.datasets.geometry import Geometry
from infusion_jax.errors import UserError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
POLICIES = ("fail", "skip")
#: A picture beyond these is refused before it is decoded (Pillow's own limit).
MAX_PIXELS = 89_478_485
MAX_BYTES = 128 << 20

_LOGGER = logging.getLogger(__name__)
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SPLIT_FOLDERS = {
  "train": "train",
  "training": "train",
  "validation": "validation",
  "valid": "validation",
  "val": "validation",
  "test": "test",
  "testing": "test",
}
# Pictures handed to a thread at once, and bad ones named in a message.
_CHUNK = 64
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Picture:
  """A file in a folder or zip.

  Attributes:
    root: The folder or zip.
    name: Its path in there, with slashes.
    split: Of `SPLITS`; None where the root has no folders named so.
    label: The folders it lies in below its split, joined: its class.
  """

  root: pathlib.Path
  name: str
  split: str | None
  label: str


def load(
  name: str,
  path: str | None = None,
  *,
  cache_dir: str | None = None,
  crop: int = 0,
  size: int = 0,
  fit: str = "crop",
  grey: bool = False,
  bad_pictures: str = "fail",
  max_images: int = 0,
) -> Dataset:
  """Loads a folder or a zip of pictures (see `ENDINGS`), in folders or not.

  Folders `train`, `validation` and `test`, where there are some, are the splits;
  a missing `validation` is the last sixth of the training pictures, at most
  10,000. Other folders mean nothing here; `labels` takes them for classes.
  Without such folders all pictures are split 70 : 10 : 20. Each split is in the
  order of a fixed permutation, so that its first pictures are of all classes.
  Several paths, separated by commas, are the splits their names end in:
  `faces_train.zip,faces_test.zip`. Decoded arrays are cached; pictures left out
  are reported when they are decoded.

  Args:
    name: What messages call the data set.
    path: Folder or zip; or several, see above.
    cache_dir: Where decoded arrays are kept; see `cache.default_dir`.
    crop: See `Geometry`, as for the next three.
    size: If 0, all pictures must be of one size.
    fit: See `Geometry`.
    grey: See `Geometry`.
    bad_pictures: "fail" names pictures that cannot be read and ends; "skip"
      names them in a warning and leaves them out.
    max_images: If not 0, only so many pictures of each split are looked at; see
      `splits.most_images`.

  Returns:
    Images uint8 [N, H, W, 1] or [N, H, W, 3] with 256 levels.

  Raises:
    UserError: The path is missing, holds no pictures or half the splits, or
      pictures are bad or of different sizes.
  """
  geometry = Geometry(crop, size, fit, grey)
  _check_policy(bad_pictures)
  index = _index(path, max_images)
  details = repr(
    (geometry, bad_pictures, {s: [p.name for p in index[s]] for s in index})
  )
  dataset = cache.load_or_build(
    f"{name}-{hashlib.sha256(details.encode()).hexdigest()[:16]}",
    _files(index),
    lambda: _build(name, index, geometry, bad_pictures),
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
  bad_pictures: str = "fail",
  max_images: int = 0,
) -> dict[str, np.ndarray]:
  """The classes of the pictures that `load` returns, as their folders name them.

  Where pictures may be left out, they are decoded again to find which.

  Args:
    name: Not used.
    path: As for `load`, and all that follow.
    cache_dir: Not used.
    crop: See `load`.
    size: See `load`.
    fit: See `load`.
    grey: See `load`.
    bad_pictures: See `load`.
    max_images: See `load`.

  Returns:
    By split, int32 [N], numbers from 0 in the alphabetic order of the classes.

  Raises:
    UserError: There are fewer than two class folders, or what `load` raises.
  """
  del name, cache_dir
  _check_policy(bad_pictures)
  index = _index(path, max_images)
  if bad_pictures == "skip":
    geometry = Geometry(crop, size, fit, grey)
    index = {s: _decode(pictures, geometry).kept for s, pictures in index.items()}
  classes = sorted({picture.label for split in SPLITS for picture in index[split]})
  if len(classes) < 2:
    raise UserError(
      f"data.path is {path!r}; its pictures lie in {len(classes)} class folder,"
      " labels need at least 2"
    )
  numbers = {label: number for number, label in enumerate(classes)}
  return {
    split: np.array([numbers[p.label] for p in pictures], np.int32)
    for split, pictures in index.items()
  }


def _check_policy(bad_pictures: str) -> None:
  if bad_pictures not in POLICIES:
    raise UserError(
      f"data.bad_pictures is {bad_pictures!r}; allowed are {', '.join(POLICIES)}"
    )


# What there is.


def _index(path: str | None, max_images: int) -> dict[str, list[Picture]]:
  """Returns the pictures by split, in the order to be kept."""
  found: dict[str | None, list[Picture]] = {}
  for picture in _all_pictures(path):
    found.setdefault(picture.split, []).append(picture)
  _check_splits(found, path)
  found = {split: _permuted(pictures) for split, pictures in found.items()}
  where = f"data.path {path!r}"
  if None in found:
    three = splits.split_ordered(found[None], where)
  elif "validation" in found:
    three = found["train"], found["validation"], found["test"]
  else:
    three = *splits.carve_validation(found["train"], where), found["test"]
  most = splits.most_images(max_images)
  return {s: p[: most[s]] for s, p in zip(SPLITS, three, strict=True)}


def _check_splits(found: dict[str | None, list[Picture]], path: str | None) -> None:
  names = ", ".join(split for split in SPLITS if split in found)
  if None in found and len(found) > 1:
    raise UserError(
      f"data.path is {path!r}; {found[None][0].name} lies outside of the folders of"
      f" the splits ({names})"
    )
  if None not in found and not {"train", "test"} <= set(found):
    raise UserError(
      f"data.path is {path!r}; it has pictures for {names} only, train and test are"
      " needed (or no such folders at all)"
    )


def _permuted(pictures: list[Picture]) -> list[Picture]:
  pictures = sorted(pictures, key=lambda picture: (str(picture.root), picture.name))
  return [pictures[i] for i in splits.fixed_permutation(len(pictures))]


def _files(index: dict[str, list[Picture]]) -> set[pathlib.Path]:
  """Returns the files whose change is a change of the data."""
  return {
    p.root / p.name if p.root.is_dir() else p.root
    for pictures in index.values()
    for p in pictures
  }


def _all_pictures(path: str | None) -> list[Picture]:
  roots = _roots(path)
  found = [picture for root in roots for picture in _pictures(root)]
  if len(roots) == 1:
    return found
  return [
    dataclasses.replace(picture, split=picture.split or _split_of_root(picture.root))
    for picture in found
  ]


def _roots(path: str | None) -> list[pathlib.Path]:
  """Returns the folders and zips that `path` names."""
  if path and "," in path and not os.path.lexists(pathlib.Path(path).expanduser()):
    return [paths.existing_path(part.strip(), "images") for part in path.split(",")]
  return [paths.existing_path(path, "images")]


def _split_of_root(root: pathlib.Path) -> str:
  for ending, split in _SPLIT_FOLDERS.items():
    if root.stem.lower().endswith(ending):
      return split
  raise UserError(
    f"data.path names {root.name!r}; of several paths each must end in train,"
    " validation or test"
  )


def _pictures(root: pathlib.Path) -> list[Picture]:
  """Returns the pictures of a folder or zip, their splits told by its folders.

  Raises:
    UserError: It holds no pictures, or is neither folder nor zip.
  """
  names = _folder_names(root) if root.is_dir() else _zip_names(root)
  names = [name for name in names if not _hidden(name)]
  chosen = [name for name in names if name.lower().endswith(ENDINGS)]
  if not chosen:
    raise UserError(
      f"data.path names {str(root)!r}, which holds no pictures; allowed endings are"
      f" {', '.join(ENDINGS)}"
    )
  if len(chosen) < len(names):
    other = sorted(set(names) - set(chosen))
    _LOGGER.warning(
      "%s: %d files are no pictures by their endings, e.g. %s",
      root,
      len(other),
      other[0],
    )
  skip = _wrapping(chosen)
  return [_picture(root, name, skip) for name in chosen]


def _picture(root: pathlib.Path, name: str, skip: int) -> Picture:
  folders = name.split("/")[skip:-1]
  split = _SPLIT_FOLDERS.get(folders[0].lower()) if folders else None
  return Picture(root, name, split, "/".join(folders[1:] if split else folders))


def _wrapping(names: list[str]) -> int:
  """Returns how many outer folders all pictures share and no split is named by."""
  shared = 0
  folders = [name.split("/")[:-1] for name in names]
  for level in zip(*folders, strict=False):
    if len(set(level)) > 1 or level[0].lower() in _SPLIT_FOLDERS:
      break
    shared += 1
  return shared


def _hidden(name: str) -> bool:
  """Whether a file is the system's own: macOS zips are full of them."""
  return any(
    part.startswith((".", "__MACOSX")) and part != "." for part in name.split("/")
  )


def _folder_names(root: pathlib.Path) -> list[str]:
  return [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]


def _zip_names(root: pathlib.Path) -> list[str]:
  with _opened_zip(root) as archive:
    names = [info.filename for info in archive.infolist()]
    # A damaged archive may have a member without a name.
    return [name for name in names if name and not name.endswith("/")]


@contextlib.contextmanager
def _opened_zip(root: pathlib.Path) -> Iterator[zipfile.ZipFile]:
  try:
    archive = zipfile.ZipFile(root)
  # Damaged zip files make the standard library raise nearly anything.
  except Exception as error:
    raise UserError(
      f"data.path names {str(root)!r}, which is neither a folder nor a sound zip"
      f" ({paths.one_line(error)})"
    ) from error
  with archive:
    yield archive


# Decoding.


def _build(
  name: str, index: dict[str, list[Picture]], geometry: Geometry, bad_pictures: str
) -> Dataset:
  """Decodes the pictures of all splits, then judges what was bad among them."""
  found = {split: _decode(pictures, geometry) for split, pictures in index.items()}
  bad = [text for gathered in found.values() for text in gathered.bad]
  _report(bad, sum(map(len, index.values())), bad_pictures)
  for split, gathered in found.items():
    if not gathered.kept:
      raise UserError(
        f"dataset {name!r}: nothing is left of split {split!r}, whose pictures cannot"
        f" be used: {_some(gathered.bad)}"
      )
  return Dataset(name, **{s: g.images[: len(g.kept)] for s, g in found.items()})


def _decode(pictures: list[Picture], geometry: Geometry) -> "_Gathered":
  """Decodes pictures in parallel.

  Raises:
    UserError: Their sizes differ.
  """
  gathered = _Gathered(len(pictures))
  for picture, result in _decoded(pictures, geometry):
    if isinstance(result, str):
      gathered.bad.append(f"{picture.name} ({result})")
    else:
      gathered.add(picture, result)
  return gathered


class _Gathered:
  """The array that pictures of one size are put into, and those that had none."""

  def __init__(self, total: int):
    self.kept: list[Picture] = []
    self.bad: list[str] = []
    self.images: np.ndarray | None = None
    self._total = total

  def add(self, picture: Picture, image: np.ndarray) -> None:
    if self.images is None:
      self.images = np.empty((self._total, *image.shape), np.uint8)
    if image.shape != self.images.shape[1:]:
      shapes = self.images.shape[1:], image.shape
      first, other = (f"{height}x{width}" for height, width, _ in shapes)
      raise UserError(
        f"pictures differ in size: {self.kept[0].name} is {first}, {picture.name} is"
        f" {other}; data.size brings them to one, e.g. data.size = 64"
      )
    self.images[len(self.kept)] = image
    self.kept.append(picture)


def _decoded(
  pictures: list[Picture], geometry: Geometry
) -> Iterator[tuple[Picture, np.ndarray | str]]:
  """Yields every picture with its array, or why there is none; with progress."""
  roots = {picture.root for picture in pictures}
  with (
    contextlib.ExitStack() as stack,
    tqdm.tqdm(
      total=len(pictures), desc="decoding pictures", unit="image", disable=None
    ) as progress,
  ):
    readers = {root: stack.enter_context(_reader(root)) for root in roots}

    def decode(picture: Picture) -> np.ndarray | str:
      return _decode_one(readers[picture.root], picture.name, geometry)

    for pair in _in_threads(decode, pictures):
      progress.update()
      yield pair


def _report(bad: list[str], total: int, bad_pictures: str) -> None:
  """Ends on bad pictures, or warns of them, all by name."""
  if bad and bad_pictures == "fail":
    raise UserError(
      f"{len(bad)} of {total} pictures cannot be used: {_some(bad)}; mend or remove"
      " them, or leave them out by data.bad_pictures = skip"
    )
  if bad:
    _LOGGER.warning(
      "%d of %d pictures are left out: %s", len(bad), total, ", ".join(bad)
    )


def _some(bad: list[str]) -> str:
  rest = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
  return ", ".join(bad[:_NAMED]) + rest


@contextlib.contextmanager
def _reader(root: pathlib.Path) -> Iterator[Callable[[str], bytes]]:
  """Yields a function that reads a file of a folder or zip, in any thread."""
  if root.is_dir():

    def read(name: str) -> bytes:
      with (root / name).open("rb") as stream:
        return bytes(paths.read_at_most(stream, MAX_BYTES))

    yield read
    return
  lock = threading.Lock()
  with _opened_zip(root) as archive:

    def read(name: str) -> bytes:
      with lock, archive.open(name) as stream:
        return bytes(paths.read_at_most(stream, MAX_BYTES))

    yield read


def _in_threads(
  function: Callable[[Picture], np.ndarray | str], pictures: Sequence[Picture]
) -> Iterator[tuple[Picture, np.ndarray | str]]:
  """Yields every picture with its result, in order; decoding releases the GIL.

  Only a few chunks are under way at once, so that memory does not grow when the
  results are taken slowly.
  """
  workers = os.cpu_count() or 1
  chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    for first in range(0, len(chunks), 4 * workers):
      group = chunks[first : first + 4 * workers]
      for chunk, results in zip(
        group, pool.map(lambda c: [function(p) for p in c], group), strict=True
      ):
        yield from zip(chunk, results, strict=True)


def _decode_one(
  read: Callable[[str], bytes], name: str, geometry: Geometry
) -> np.ndarray | str:
  """Returns the picture as an array, or in a few words why there is none."""
  try:
    data = read(name)
    if len(data) > MAX_BYTES:
      return f"has more than {MAX_BYTES >> 20} MiB"
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
      width, height = image.size
      if width * height > MAX_PIXELS:
        return f"is {height}x{width}, more than {MAX_PIXELS} pixels"
      return geometry.apply(ImageOps.exif_transpose(image))
  except UnidentifiedImageError:
    return "is no picture, or its beginning is damaged"
  # Broken pictures make decoders and the zip library raise nearly anything.
  except Exception as error:
    return paths.one_line(error)
