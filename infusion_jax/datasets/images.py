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
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from infusion_jax.datasets import cache, listing, paths
from infusion_jax.datasets.dataset import SPLITS, Dataset
from infusion_jax.datasets.geometry import Geometry
from infusion_jax.datasets.listing import Picture
from infusion_jax.errors import UserError
from infusion_jax.terminal.counting import counter

POLICIES = ("fail", "skip")
#: A picture beyond these is refused before it is decoded (Pillow's own limit).
MAX_PIXELS = 89_478_485
MAX_BYTES = 128 << 20

_LOGGER = logging.getLogger(__name__)
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pictures handed to a thread at once, and bad ones named in a message.
_CHUNK = 64
_NAMED = 5


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
  """Loads a folder or a zip of pictures (see `listing.ENDINGS`), in folders or not.

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
  index = listing.index(path, max_images)
  details = repr(
    (geometry, bad_pictures, {s: [p.name for p in index[s]] for s in index})
  )
  dataset = cache.load_or_build(
    f"{name}-{hashlib.sha256(details.encode()).hexdigest()[:16]}",
    listing.files(index),
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
  index = listing.index(path, max_images)
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

  def __init__(self, total: int) -> None:
    self.kept: list[Picture] = []
    self.bad: list[str] = []
    self.images: np.ndarray | None = None
    self._total = total

  def add(self, picture: Picture, image: np.ndarray) -> None:
    """Puts a picture beside those before, which must have its size."""
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
    counter(len(pictures), "decoding pictures", "image") as progress,
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
  with listing.opened_zip(root) as archive:

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
