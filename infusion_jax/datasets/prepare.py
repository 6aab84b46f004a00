"""Prepares tfds data sets as array_record files. This, only, needs TensorFlow."""

import contextlib
import hashlib
import importlib.util
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from infusion_jax.datasets import paths, tfds
from infusion_jax.errors import UserError


def prepare(
  name: str, data_dir: str, manual_dir: str | None = None
) -> tuple[pathlib.Path, dict[str, int]]:
  """Prepares a data set so that source "tfds" can read it.

  Args:
    name: Name in tfds, "mnist" or "emnist/letters".
    data_dir: The data folder; a folder for the data set is made in it.
    manual_dir: Folder with the archives that tfds would download. If given,
      nothing is downloaded.

  Returns:
    The prepared folder, and the number of examples by split. What is already
    prepared is left as it is.

  Raises:
    UserError: The name is unknown, an archive is missing or not the expected
      one, TensorFlow is not installed, or the preparation fails.
  """
  root = pathlib.Path(data_dir).expanduser()
  builder = _builder(name, root)
  if not builder.data_path.exists():
    # Checks what can fail at once before TensorFlow is imported.
    archives = _checked_archives(builder, manual_dir) if manual_dir else None
    _check_tensorflow()
    _make_folder(root)
    with _scratch_folder(root, archives) as scratch:
      _run(builder, archives, scratch)
  counts = {key: info.num_examples for key, info in builder.info.splits.items()}
  return pathlib.Path(builder.data_path), counts


def _builder(name: str, root: pathlib.Path) -> Any:
  dataset, _, config = tfds.parse_name(name)[0].partition("/")
  module = tfds.import_tfds()
  try:
    configs = [known.name for known in module.builder_cls(dataset).BUILDER_CONFIGS]
  except module.core.DatasetNotFoundError as error:
    raise UserError(
      f"dataset is {name!r}; tfds {module.__version__} has no data set of this name"
    ) from error
  if config and config not in configs:
    choices = ", ".join(configs) or "none"
    raise UserError(f"dataset is {name!r}; configurations of {dataset} are {choices}")
  try:
    return module.builder(name, data_dir=root, file_format=tfds.FILE_FORMAT)
  # tfds reports a version it does not know as an AssertionError.
  except (ValueError, AssertionError) as error:
    raise UserError(f"dataset is {name!r}; {' '.join(str(error).split())}") from error


def _checked_archives(builder: Any, manual_dir: str) -> pathlib.Path:
  """Returns the archives' folder once everything tfds wants is found in it.

  Without this check tfds would download what it misses, and without a network
  it would try for minutes.
  """
  folder = pathlib.Path(manual_dir).expanduser()
  if not folder.is_dir():
    raise UserError(f"manual_dir is {manual_dir!r}; there is no such folder")
  expected = {info.filename: info for info in (builder.url_infos or {}).values()}
  missing = [name for name in expected if not name or not (folder / name).is_file()]
  if missing:
    raise UserError(
      f"manual_dir is {manual_dir!r}; it lacks {_listed(missing)} of the files that"
      f" tfds expects for {builder.name}: {_listed(expected)}"
    )
  for name, info in expected.items():
    _check_archive(folder / name, info)
  return folder


def _check_archive(path: pathlib.Path, info: Any) -> None:
  size = path.stat().st_size
  if size != info.size:
    raise UserError(
      f"archive {path}: has {size} bytes, tfds expects {int(info.size)} bytes"
    )
  with path.open("rb") as stream:
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
  if digest != info.checksum:
    raise UserError(
      f"archive {path}: its sha256 is {digest}, tfds expects {info.checksum}"
    )


def _listed(names: Any) -> str:
  return ", ".join(sorted(name or "a file without a name" for name in names))


def _check_tensorflow() -> None:
  if importlib.util.find_spec("tensorflow") is None:
    raise UserError(
      "preparing data needs TensorFlow, which is not installed; run"
      " pip install -e '.[prepare]'"
    )


def _make_folder(root: pathlib.Path) -> None:
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"data_dir is {str(root)!r}; it cannot be made ({paths.one_line(error)})"
    ) from error


@contextlib.contextmanager
def _scratch_folder(
  root: pathlib.Path, archives: pathlib.Path | None
) -> Iterator[pathlib.Path]:
  """Yields the folder for downloads and for what is unpacked.

  Downloads are kept: they are worth resuming. Local archives get a folder of
  their own each time, because tfds tells unpacked files apart by name only, and
  MNIST and Fashion-MNIST give theirs the same names.
  """
  if archives is None:
    yield root / "downloads"
    return
  with tempfile.TemporaryDirectory(dir=root, prefix=".unpacked-") as scratch:
    yield pathlib.Path(scratch)


def _run(builder: Any, archives: pathlib.Path | None, scratch: pathlib.Path) -> None:
  module = tfds.import_tfds()
  # Google's bucket holds prepared data sets in a format that we do not read.
  config = module.download.DownloadConfig(
    manual_dir=archives, extract_dir=scratch / "extracted", try_download_gcs=False
  )
  try:
    builder.download_and_prepare(
      download_dir=scratch, download_config=config, file_format=tfds.FILE_FORMAT
    )
  # Downloads, checksums, disks and generators raise many kinds of errors.
  except Exception as error:
    raise UserError(
      f"dataset {builder.name!r} could not be prepared in {builder.data_path}"
      f" ({type(error).__name__}: {paths.one_line(error)})"
    ) from error
