"""Points in the plane, to see what infusion does: trained in seconds on a CPU.

  python -m experiments.train --config=configs/two_d.py --workdir=runs/moons
  python -m experiments.density --workdir=runs/moons

Variants: two_moons (the default), rings, checkerboard, as in --config=two_d:rings.
"""

import ml_collections

from configs import base

_NAMES = ("two_moons", "rings", "checkerboard")


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, *_NAMES)
  config = base.get_config()
  config.data.name = next(iter(chosen), _NAMES[0])
  config.data.source = "points"
  config.model.hidden_sizes = (128, 128)
  # Two numbers tell little of where a chain is going: the last states must be close to
  # the target, far closer than those of pictures.
  config.chain.num_steps = 12
  config.chain.omega = 0.08
  config.train.batch_size = 500
  config.train.num_epochs = 60
  # An epoch takes less time than saving one.
  config.train.checkpoint_every = 20
  config.train.preview_every = 0
  return config
