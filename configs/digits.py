"""scikit-learn's 8x8 digits: nothing to download.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits

Expected time: two to five minutes on 2 CPU cores (300 epochs; on a busy machine, 60
epochs took 47 s).
Expected result: best validation bound near -73 nats per image (-72.7 measured; the
statistics of each mini-batch), test bound -71.3 +- 1.8 (the training set's). Bounds on
so few, coarsely quantized pixels are small numbers. Samples are clearest with more
steps than trained with:

  python -m experiments.sample --workdir=runs/digits --num_steps=20

Variants: --config=configs/digits.py:smoke, one epoch of a small network, in seconds;
:labels, a model that is told which digit to draw (experiments.sample --label=3).
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "smoke", "labels")
  config = base.get_config()
  config.data.name = "digits"
  config.data.source = "sklearn"
  config.model.hidden_sizes = (256, 256)
  config.chain.num_steps = 10
  # Small images need larger rates: 1% of 64 pixels is less than one pixel.
  config.chain.omega = 0.05
  config.train.batch_size = 64
  config.train.num_epochs = 300
  # An epoch takes less time than saving one.
  config.train.checkpoint_every = 10
  config.train.preview_every = 50
  if "labels" in chosen:
    config.model.num_classes = 10
  if "smoke" in chosen:
    base.smoke(config)
    config.model.hidden_sizes = (64, 64)
  return config
