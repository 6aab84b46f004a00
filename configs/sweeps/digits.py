"""Sixteen schedules on scikit-learn's digits: eight increasing, eight constant, T = 5.

    python -m experiments.sweep --config=configs/sweeps/digits.py --workdir=DIR

Expected time: minutes on a CPU; --dry_run prints the arithmetic.
Expected result: sweep.md, one row a schedule, and the validation curves.
"""

import ml_collections

from configs import digits
from infusion_jax.sweep.overrides import chained, product, sweep


def get_config() -> ml_collections.ConfigDict:
  """The sweep."""
  config = ml_collections.ConfigDict()
  config.base = digits.get_config()
  config.base.chain.num_steps = 5
  config.base.train.num_epochs = 100
  config.base.train.checkpoint_every = 20
  config.runs = chained(
    product(
      [{"chain.alpha0": 0.0}],
      sweep("chain.omega", [0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2]),
    ),
    product(
      [{"chain.omega": 0.0}],
      sweep("chain.alpha0", [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5]),
    ),
  )
  return config
