"""scikit-learn's 8x8 digits: nothing to download, minutes on a laptop."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  config = base.get_config()
  config.data.name = "digits"
  config.data.source = "sklearn"
  config.model.hidden_sizes = (256, 256)
  config.chain.num_steps = 10
  # Small images need larger rates: 1% of 64 pixels is less than one pixel.
  config.chain.omega = 0.05
  config.train.batch_size = 64
  config.train.num_epochs = 300
  config.train.preview_every = 50
  return config
