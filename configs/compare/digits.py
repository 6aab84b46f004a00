"""Infusion and its rivals on scikit-learn's digits, one budget for all.

    python -m experiments.compare --config=configs/compare/digits.py --workdir=DIR

Expected time: minutes a method on 2 CPU cores.
Expected result: tables, a plot and grids of samples; results/compare/digits so far.
Variant: --config=configs/compare/digits.py:flow, with the normalizing flow, too
(pip install -e '.[peers]').
"""

import ml_collections

from configs import base, digits
from configs.compare import common


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The comparison: the run whose budget all share, and the rules."""
  chosen = base.variants(variant, "flow")
  config = common.of(digits.get_config())
  config.base.train.num_epochs = 100
  config.compare.num_samples = 1000
  config.compare.curve_samples = 1000
  config.compare.sigma = 0.0
  config.compare.likelihood_images = 200
  config.compare.temperatures = 500
  if "flow" in chosen:
    config.compare.methods += ("normalizing_flow",)
  return config
