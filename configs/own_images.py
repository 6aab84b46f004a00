"""Your own pictures: a folder or a zip of them, of any sizes, brought to 64x64.

    python -m experiments.train --config=configs/own_images.py \\
      --config.data.path=PICTURES --workdir=runs/own

PICTURES may have folders train, validation and test; without them it is split
70 : 10 : 20. Other settings of interest:

    --config.data.size=32 --config.model.channels="(512,256,128)"   (smaller pictures)
    --config.data.fit=stretch       the whole picture, not its middle
    --config.data.grey              one channel
    --config.data.bad_pictures=skip leave out what cannot be read

Some thousand pictures and a GPU are needed for anything nice. Variants, as in
--config=configs/own_images.py:smoke (several: smoke,unet):

- unet: the time-conditioned U-Net instead.
- laptop: 32x32, at most 5,000 pictures and a fully connected network, 60 epochs: 41
  minutes of CPU time on CelebA, so about 20 on two cores. results/own_images has what
  came out: faces.
- smoke: a small network on at most 2,000 pictures, one epoch in about a minute on two
  cores.
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "unet", "laptop", "smoke")
  config = base.get_config()
  config.data.name = "own_images"
  config.data.source = "images"
  config.data.size = 64
  config.model.name = "conv"
  config.model.channels = (512, 256, 128, 64)
  config.chain.num_steps = 15
  config.chain.omega = 0.01
  config.train.batch_size = 64
  config.train.num_epochs = 300
  config.train.patience = 30
  if "unet" in chosen:
    config.model.name = "unet"
    config.model.channels = (256, 256, 128, 64)
  if "laptop" in chosen:
    laptop(config)
  if "smoke" in chosen:
    base.smoke(config)
    config.model.channels = (16, 16, 8, 8) if "unet" in chosen else (32, 16, 16, 8)
  return config


def laptop(config: ml_collections.ConfigDict) -> None:
  """Smaller pictures and a network without convolutions, which CPUs are slow at."""
  config.data.size = 32
  config.data.max_images = 5000
  config.model.name = "mlp"
  config.model.hidden_sizes = (800, 800)
  config.chain.num_steps = 8
  config.chain.omega = 0.03
  config.train.num_epochs = 60
  config.train.ema_decay = 0.999
  config.train.checkpoint_every = 5
