"""Which pictures a folder or zip holds, and which split each belongs to."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import zipfile
from collections.abc import Iterator

from infusion_jax.datasets import paths, splits
from infusion_jax.datasets.dataset import SPLITS
from infusion_jax.errors import UserError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

_LOGGER = logging.getLogger(__name__)
_SPLIT_FOLDERS = {
  "train": "train",
  "training": "train",
  "validation": "validation",
  "valid": "validation",
  "val": "validation",
  "test": "test",
  "testing": "test",
}


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


def index(path: str | None, max_images: int) -> dict[str, list[Picture]]:
  """The pictures by split, in the order to be kept.

  Args:
    path: `data.path`.
    max_images: at most so many of each split, if not 0.

  Raises:
    UserError: there are no pictures, or splits are missing.
  """
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


def files(index: dict[str, list[Picture]]) -> set[pathlib.Path]:
  """The files whose change is a change of the data."""
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
  with opened_zip(root) as archive:
    names = [info.filename for info in archive.infolist()]
    # A damaged archive may have a member without a name.
    return [name for name in names if name and not name.endswith("/")]


@contextlib.contextmanager
def opened_zip(root: pathlib.Path) -> Iterator[zipfile.ZipFile]:
  """The archive for as long as it is read.

  Raises:
    UserError: it is no sound zip.
  """
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
