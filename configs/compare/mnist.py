"""Infusion and its rivals on MNIST, one budget for all: T = 15, 784-1200-1200.

    python -m experiments.compare --config=configs/compare/mnist.py --workdir=DIR \\
        --config.base.data.source=idx --config.base.data.path=FOLDER

Expected time: hours on 2 CPU cores.
Expected result: results/compare/mnist.
"""

import ml_collections

from configs import mnist
from infusion_jax.comparison.contest import Rules


def get_config() -> ml_collections.ConfigDict:
  """Infusion's run (`base`), whose budget all share, and the rules (`compare`)."""
  config = ml_collections.ConfigDict()
  config.base = mnist.get_config()
  config.base.train.num_epochs = 4
  config.base.train.ema_decay = 0.999
  config.base.train.decay = "cosine"
  config.base.train.preview_every = 0
  config.base.train.monitor_images = 0
  config.compare = ml_collections.ConfigDict(vars(Rules()))
  return config
