"""CIFAR-10 as in the thesis: T = 20, alpha0 = 0, omega = 0.02, 4x4x512 to 32x32.

    python -m experiments.prepare_data --dataset=cifar10 --data_dir=DIR
    python -m experiments.train --config=configs/cifar10.py --config.data.path=DIR \\
      --workdir=runs/cifar10

prepare_data needs a network and TensorFlow; training needs neither. Time and
result on a GPU: not measured yet. Variants, as in --config=configs/cifar10.py:smoke
(several: smoke,unet):

- files: cifar10_jpeg_train.zip and cifar10_jpeg_test.zip in $INFUSION_JAX_DATA (else
  in data/), with class folders. They are LOSSY (JPEG, about 30 dB): numbers on them
  compare with numbers on them only, never with published ones.
- unet: the time-conditioned U-Net instead.
- smoke: a small network on 2,000 of these files, one epoch in about a minute on two
  cores; the pictures are coloured clouds.
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "files", "unet", "smoke")
  config = base.get_config()
  config.data.name = "cifar10"
  config.data.source = "tfds"
  config.model.name = "conv"
  config.model.channels = (512, 256, 128)
  config.chain.num_steps = 20
  config.chain.omega = 0.02
  config.train.batch_size = 128
  config.train.num_epochs = 300
  config.train.patience = 30
  if chosen & {"files", "smoke"}:
    config.data.name = "cifar10_jpeg"
    config.data.source = "images"
    config.data.path = ",".join(
      base.data_path(f"cifar10_jpeg_{split}.zip") for split in ("train", "test")
    )
  if "unet" in chosen:
    config.model.name = "unet"
    config.model.channels = (256, 256, 128)
  if "smoke" in chosen:
    base.smoke(config)
    config.model.channels = (16, 16, 8) if "unet" in chosen else (32, 16, 8)
  return config
