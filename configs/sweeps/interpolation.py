"""How much of the target interpolation infuses: omega on MNIST, T = 5 and T = 15.

    python -m experiments.sweep --config=configs/sweeps/interpolation.py \\
        --workdir=DIR --config.base.data.source=idx \\
        --config.base.data.path=MNIST_FOLDER

One of the two: --config=configs/sweeps/interpolation.py:5 or :15. Six epochs a run of
the denoising criterion, Adam's rate on a half cosine.

Expected time: made for a GPU; on two cores an hour for T = 5 and two for T = 15.
Expected result: not measured yet.
"""

import ml_collections

from configs import mnist
from infusion_jax.errors import UserError
from infusion_jax.sweep.overrides import Override, chained, product, sweep

#: Values of omega by T.
RATES = {
  "5": (0.02, 0.05, 0.1, 0.15, 0.2, 0.25),
  "15": (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07),
}


def get_config(lengths: str = "5,15") -> ml_collections.ConfigDict:
  """The sweep for some T, separated by commas."""
  config = ml_collections.ConfigDict()
  config.base = mnist.get_config()
  config.base.chain.infusion = "interpolation"
  config.base.train.num_epochs = 6
  config.base.train.decay = "cosine"
  config.base.train.preview_every = 0
  config.runs = chained(*(_runs(length.strip()) for length in lengths.split(",")))
  return config


def _runs(length: str) -> list[Override]:
  if length not in RATES:
    raise UserError(f"T is {length!r}; allowed are {', '.join(RATES)}")
  return product(
    [{"chain.num_steps": int(length)}], sweep("chain.omega", RATES[length])
  )
