"""Images as uint8 arrays, one per split, from whatever source holds them."""

from infusion_jax.datasets.configured import from_config, labelled, labels_from_config
from infusion_jax.datasets.dataset import Dataset
from infusion_jax.datasets.registry import SOURCES, load

__all__ = [
  "SOURCES",
  "Dataset",
  "from_config",
  "labelled",
  "labels_from_config",
  "load",
]
