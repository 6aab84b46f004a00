"""A trained model in one call: `load(path)`, then sample, inpaint, score.

No optimizer state is read.
"""

from infusion_jax.model.batches import BATCH, keys_of
from infusion_jax.model.exporting import export, export_file, push
from infusion_jax.model.loading import epochs, load, locate, untrained
from infusion_jax.model.rival import PeerModel
from infusion_jax.model.trained import Model

__all__ = [
  "BATCH",
  "Model",
  "PeerModel",
  "epochs",
  "export",
  "export_file",
  "keys_of",
  "load",
  "locate",
  "push",
  "untrained",
]
