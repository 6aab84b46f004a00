"""MNIST as in the thesis: T = 15, alpha0 = 0, omega = 0.01, 784-1200-1200."""

import ml_collections

from configs import base


def get_config() -> ml_collections.ConfigDict:
  config = base.get_config()
  config.data.name = "mnist"
  config.data.source = "tfds"
  config.model.hidden_sizes = (1200, 1200)
  config.chain.num_steps = 15
  config.chain.omega = 0.01
  config.train.batch_size = 128
  config.train.num_epochs = 300
  return config
