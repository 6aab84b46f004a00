"""Binary MNIST: chains of bits, whose bound compares with that of other models of bits.

  python -m experiments.train --config=configs/binary_mnist.py --workdir=runs/binary \\
      --config.data.path=FOLDER_WITH_THE_FOUR_FILES

Every pixel is drawn once, with its grey value as the probability of a 1, from a fixed
seed: static binarization, although not the very draw that others share as a file.
--config=configs/binary_mnist.py:threshold takes pixels from half of the levels on
instead; its numbers compare with themselves only. :digits is the same on scikit-learn's
8x8 digits, in a minute or two.
"""

import ml_collections

from configs import base, digits


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "threshold", "digits")
  config = digits.get_config() if "digits" in chosen else _mnist()
  config.data.binarize = "threshold" if "threshold" in chosen else "sampled"
  config.chain.states = "bernoulli"
  return config


def _mnist() -> ml_collections.ConfigDict:
  config = base.get_config()
  config.data.name = "mnist"
  config.data.source = "idx"
  config.data.path = base.data_path("mnist")
  config.model.hidden_sizes = (600, 600)
  # Of three schedules the best after equal epochs, see results/conditions/README.md.
  config.chain.num_steps = 5
  config.chain.omega = 0.1
  config.train.batch_size = 128
  config.train.num_epochs = 50
  return config
