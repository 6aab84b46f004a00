"""Table A.1 and figure A.1: infusion rates on MNIST, T = 1, 5, 10 and 15.

    python -m experiments.sweep --config=configs/sweeps/table_a1.py --workdir=DIR

Single sub-tables: --config=configs/sweeps/table_a1.py:a,b (a to d increasing rates,
T = 1, 5, 10, 15; e and f constant rates, T = 10 and 15); b_twice, c_twice and d_twice
use the first rate twice, as the authors' script does. A short look at the order of the
rates: --config.base.train.num_epochs=10.

Expected time: --dry_run prints the arithmetic of every group and, once a group of
the workdir has been trained, the time that it takes.
Expected result: the order of table A.1, best rates 0.3 to 0.4 (T = 1), 0.1 (T = 5),
0.02 (T = 10), 0.01 (T = 15); constant rates 0.08 (T = 10) and 0.06 (T = 15).
"""

import ml_collections

from configs import mnist
from infusion_jax.errors import UserError
from infusion_jax.sweep.overrides import (
  Override,
  chained,
  product,
  sweep,
)

#: Rates of the sub-tables. Figure A.1 names only the best of (e) and (f).
RATES = {
  "a": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9),
  "b": (0.0, 0.01, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2),
  "c": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07),
  "d": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
  "e": (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2),
  "f": (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2),
}
STEPS = {"a": 1, "b": 5, "c": 10, "d": 15, "e": 10, "f": 15}
#: Sub-tables in the reading of the authors' script: rates 0, 0, omega, 2 omega, ...
TWICE = ("b_twice", "c_twice", "d_twice")


def get_config(tables: str = "a,b,c,d,e,f") -> ml_collections.ConfigDict:
  """The sweep of some sub-tables, their letters separated by commas."""
  config = ml_collections.ConfigDict()
  config.base = mnist.get_config()
  config.base.train.patience = 50
  config.base.train.checkpoint_every = 10
  config.runs = chained(*(sub_table(name.strip()) for name in tables.split(",")))
  return config


def sub_table(name: str) -> list[Override]:
  """The runs of one sub-table."""
  if name not in (*RATES, *TWICE):
    allowed = ", ".join([*RATES, *TWICE])
    raise UserError(f"sub-table is {name!r}; allowed are {allowed}")
  letter = name[0]
  swept, other = ("alpha0", "omega") if letter in "aef" else ("omega", "alpha0")
  fixed = {"chain.num_steps": STEPS[letter], f"chain.{other}": 0.0}
  if name in TWICE:
    fixed["chain.repeat_first_rate"] = True
  return product([fixed], sweep(f"chain.{swept}", RATES[letter]))
