"""scikit-learn's 8x8 digits: nothing to download.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits

Expected time: DEMO_TIME on 2 CPU cores (300 epochs).
Expected result: best validation bound near -73 nats per image (-72.85 measured with
seed 0; the statistics of each mini-batch). Bounds on so few, coarsely quantized pixels
are small numbers. Samples are clearest with more steps than trained with:

  python -m experiments.sample --workdir=runs/digits --num_steps=20
"""

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
