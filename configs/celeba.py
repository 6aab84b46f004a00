"""CelebA 64x64 as in the thesis: T = 15, alpha0 = 0, omega = 0.01, 4x4x512 to 64x64.

    python -m experiments.prepare_data --dataset=celeb_a --data_dir=DIR
    python -m experiments.train --config=configs/celeba.py --config.data.path=DIR \\
      --workdir=runs/celeba

prepare_data needs a network and TensorFlow; training needs neither. The aligned
178x218 pictures are cropped to their middle 140x140 and brought to 64x64. Time and
result on a GPU: not measured yet. Variants, as in --config=configs/celeba.py:smoke
(several: smoke,unet):

- files: celeba64_subset.zip in $INFUSION_JAX_DATA (else in data/): 17,476 faces of
  the official test range as 64x64 JPEGs, cropped more loosely. Numbers on them do
  not compare with numbers on CelebA.
- unet: the time-conditioned U-Net instead.
- smoke: a small network on 2,000 of these files, one epoch in about a minute on two
  cores; the pictures are blurred faces at best.
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "files", "unet", "smoke")
  config = base.get_config()
  config.data.name = "celeb_a"
  config.data.source = "tfds"
  config.data.crop = 140
  config.data.size = 64
  config.model.name = "conv"
  config.model.channels = (512, 256, 128, 64)
  config.chain.num_steps = 15
  config.chain.omega = 0.01
  config.train.batch_size = 128
  config.train.num_epochs = 100
  config.train.patience = 20
  if chosen & {"files", "smoke"}:
    config.data.name = "celeba64_subset"
    config.data.source = "images"
    config.data.path = base.data_path("celeba64_subset.zip")
    config.data.crop = 0
  if "unet" in chosen:
    config.model.name = "unet"
    config.model.channels = (256, 256, 128, 64)
  if "smoke" in chosen:
    base.smoke(config)
    config.model.channels = (16, 16, 8, 8) if "unet" in chosen else (32, 16, 16, 8)
  return config
