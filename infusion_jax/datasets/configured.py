"""A data set as a configuration describes it: the way of all launchers."""

import dataclasses

import numpy as np

from infusion_jax.config import DataConfig
from infusion_jax.datasets import registry, splits
from infusion_jax.datasets.dataset import SPLITS, Dataset

# What only some sources know. A value other than the default is passed on, and
# the registry says so where a source has no such option.
_OPTIONS = ("crop", "size", "fit", "grey", "bad_pictures", "fold")


def from_config(data: DataConfig) -> Dataset:
  """Loads the data set of a configuration.

  Raises:
    UserError: See `registry.load`.
  """
  dataset = registry.load(**_arguments(data))
  if not data.max_images:
    return dataset
  most = splits.most_images(data.max_images)
  cut = {split: dataset.split(split)[: most[split]] for split in SPLITS}
  return dataclasses.replace(dataset, **cut)


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
  # Pictures that are cut off afterwards need not be decoded.
  if data.source == "images":
    options["max_images"] = data.max_images
  return {
    "name": data.name,
    "source": data.source,
    "path": data.path or None,
    "cache_dir": data.cache_dir or None,
    **options,
  }
