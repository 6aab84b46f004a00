"""Infusion and its rivals on MNIST, one budget for all: T = 15, 784-512-512.

    python -m experiments.compare --config=configs/compare/mnist.py --workdir=DIR \\
        --config.base.data.source=idx --config.base.data.path=FOLDER

One epoch of infusion, 1,562 mini-batches of 32, 23,430 passes for every method.
Expected time: training takes at most an hour of CPU time in all, by the first steps of
mini-batches twice as large; with all measurements it has not been run to its end yet.
Expected result: not measured yet.
"""

import ml_collections

from configs import mnist
from configs.compare import common


def get_config() -> ml_collections.ConfigDict:
  """The comparison: the run whose budget all share, and the rules."""
  config = common.of(mnist.get_config())
  config.base.model.hidden_sizes = (512, 512)
  config.base.train.batch_size = 32
  config.base.train.num_epochs = 1
  config.compare.num_samples = 2000
  config.compare.curve_samples = 2000
  config.compare.likelihood_images = 200
  config.compare.ais_images = 16
  config.compare.classifier_epochs = 2
  return config
