"""A data set as a configuration describes it: the way of all launchers."""

import dataclasses

import numpy as np

from infusion_jax.config import DataConfig
from infusion_jax.datasets import registry, splits
from infusion_jax.datasets.dataset import SPLITS, Dataset
from infusion_jax.errors import UserError
from infusion_jax.pixels import BITS

# What only some sources know. A value other than the default is passed on, and
# the registry says so where a source has no such option.
_OPTIONS = ("crop", "size", "fit", "grey", "bad_pictures", "fold")


def from_config(data: DataConfig, num_classes: int = 0) -> Dataset:
  """Loads the data set of a configuration.

  Args:
    data: The configuration.
    num_classes: `model.num_classes`; 0 leaves the labels out.

  Raises:
    UserError: A label is not below `num_classes`, or see `registry.load` and
      `registry.load_labels`.
  """
  dataset = registry.load(**_arguments(data))
  if data.max_images:
    most = splits.most_images(data.max_images)
    cut = {split: dataset.split(split)[: most[split]] for split in SPLITS}
    dataset = dataclasses.replace(dataset, **cut)
  if data.binarize:
    dataset = _binarized(dataset, data.binarize)
  return labelled(dataset, data, num_classes)


def labelled(dataset: Dataset, data: DataConfig, num_classes: int) -> Dataset:
  """The data set of a configuration with its labels, or as it is for 0 classes.

  Raises:
    UserError: A label is not below `num_classes`, or see `registry.load_labels`.
  """
  if not num_classes:
    return dataset
  labels = labels_from_config(data)
  _check_labels(labels, num_classes, dataset.name)
  return dataclasses.replace(dataset, labels=labels)


def _binarized(dataset: Dataset, how: str) -> Dataset:
  """The same data as bits; see `DataConfig.binarize`.

  Drawn bits do not depend on how many images are kept.
  """
  highest = dataset.levels - 1

  def bits(images: np.ndarray, stream: int) -> np.ndarray:
    if how == "threshold":
      return (2 * images.astype(int) >= dataset.levels).astype(np.uint8)
    chance = splits.fixed_uniform(images.size, 1 + stream).reshape(images.shape)
    return (chance * highest < images).astype(np.uint8)

  made = {split: bits(dataset.split(split), n) for n, split in enumerate(SPLITS)}
  return dataclasses.replace(dataset, **made, levels=BITS)


def _check_labels(labels: dict[str, np.ndarray], num_classes: int, name: str) -> None:
  lowest = min(int(numbers.min()) for numbers in labels.values())
  highest = max(int(numbers.max()) for numbers in labels.values())
  if lowest < 0 or highest >= num_classes:
    raise UserError(
      f"model.num_classes is {num_classes}; the labels of {name} run from {lowest} to"
      f" {highest}, allowed are 0 to num_classes - 1"
    )


def labels_from_config(data: DataConfig) -> dict[str, np.ndarray]:
  """The classes of the images of `from_config`, by split, int32 [N].

  Raises:
    UserError: The source knows no labels, or see `registry.load_labels`.
  """
  labels = registry.load_labels(**_arguments(data))
  most = splits.most_images(data.max_images)
  return {split: labels[split][: most[split]] for split in SPLITS}


def _arguments(data: DataConfig) -> dict[str, object]:
  default = DataConfig()
  options = {
    name: getattr(data, name)
    for name in _OPTIONS
    if getattr(data, name) != getattr(default, name)
  }
  # Decodes no picture that `max_images` would drop afterwards.
  if data.source == "images":
    options["max_images"] = data.max_images
  return {
    "name": data.name,
    "source": data.source,
    "path": data.path or None,
    "cache_dir": data.cache_dir or None,
    **options,
  }
