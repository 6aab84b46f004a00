"""Infusion and its rivals on scikit-learn's digits, one budget for all.

    python -m experiments.compare --config=configs/compare/digits.py --workdir=DIR

Expected time: minutes a method on 2 CPU cores.
Expected result: results/compare/digits.
"""

import ml_collections

from configs import digits
from infusion_jax.comparison.contest import Rules


def get_config() -> ml_collections.ConfigDict:
  """Infusion's run (`base`), whose budget all share, and the rules (`compare`)."""
  config = ml_collections.ConfigDict()
  config.base = digits.get_config()
  config.base.train.num_epochs = 150
  config.base.train.ema_decay = 0.999
  config.base.train.decay = "cosine"
  config.base.train.preview_every = 0
  config.base.train.monitor_images = 0
  config.compare = ml_collections.ConfigDict(vars(Rules()))
  config.compare.num_samples = 2000
  config.compare.curve_samples = 1000
  config.compare.sigma = 0.0
  config.compare.likelihood_images = 0
  return config
