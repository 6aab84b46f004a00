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
- smoke: a small network on at most 2,000 pictures, one epoch in about a minute on two
  cores.
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  chosen = base.variants(variant, "unet", "smoke")
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
  if "smoke" in chosen:
    base.smoke(config)
    config.model.channels = (16, 16, 8, 8) if "unet" in chosen else (32, 16, 16, 8)
  return config
