"""Faces in grey, 48x48, as the thesis trains on the Toronto Face Database.

    python -m experiments.train --config=configs/tfd.py --workdir=runs/tfd

T = 15, alpha0 = 0, omega = 0.01, 2304-1200-1200. The database is not public;
fer2013_48.zip in $INFUSION_JAX_DATA (else in data/) stands in for it, FER2013's 35,887
faces: numbers on it do not compare with published ones. Time and result on a GPU:
not measured yet; twelve epochs on two CPU cores: results/own_images. Variants, as in
--config=configs/tfd.py:smoke:

- mat: the database itself, for those who have TFD_48x48.mat (there as well, or
  --config.data.path=FILE).
- smoke: a small network on 2,000 faces, one epoch in about a minute on two cores.
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "mat", "smoke")
  config = base.get_config()
  config.data.name = "fer2013"
  config.data.source = "images"
  config.data.path = base.data_path("fer2013_48.zip")
  config.data.grey = True
  config.model.hidden_sizes = (1200, 1200)
  config.chain.num_steps = 15
  config.chain.omega = 0.01
  config.train.batch_size = 128
  config.train.num_epochs = 300
  config.train.patience = 30
  if "mat" in chosen:
    config.data.name = "tfd"
    config.data.source = "mat"
    config.data.path = base.data_path("TFD_48x48.mat")
    config.data.grey = False
  if "smoke" in chosen:
    base.smoke(config)
    config.model.hidden_sizes = (256, 256)
  return config
