"""Infusion and its rivals on MNIST, one budget for all: T = 15, 784-512-512.

    python -m experiments.compare --config=configs/compare/mnist.py --workdir=DIR \\
        --config.base.data.source=idx --config.base.data.path=FOLDER

One epoch of infusion, 1,562 mini-batches of 32, 23,430 passes for every method.
Expected time: an hour of one core, half of it training.
Expected result: results/compare/mnist; consistency training and flow matching lead.

Variants: --config=configs/compare/mnist.py:gpu, the thesis's network 784-1200-1200,
twenty epochs of infusion in mini-batches of 128 (117,000 passes), 10,000 pictures:
not measured yet.
"""

import ml_collections

from configs import base, mnist
from configs.compare import common


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The comparison: the run whose budget all share, and the rules."""
  chosen = base.variants(variant, "gpu")
  config = common.of(mnist.get_config())
  if "gpu" in chosen:
    config.base.train.num_epochs = 20
    config.compare.classifier_epochs = 2
    return config
  config.base.model.hidden_sizes = (512, 512)
  config.base.train.batch_size = 32
  config.base.train.num_epochs = 1
  config.compare.num_samples = 2000
  config.compare.curve_samples = 2000
  config.compare.likelihood_images = 200
  config.compare.ais_images = 16
  config.compare.classifier_epochs = 2
  return config
