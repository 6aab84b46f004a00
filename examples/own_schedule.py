"""A schedule of your own: a configuration file that computes the infusion rates.

  python -m experiments.train --config=examples/own_schedule.py --workdir=runs/cosine

Any T numbers in [0, 1] are a schedule. They are inputs of the compiled program, not
part of it: another schedule never recompiles, and a sweep over schedules of one T is
one program.
"""

import math

import ml_collections

from configs import digits


def cosine(num_steps: int, last: float) -> tuple[float, ...]:
  """Rates that rise from 0 to `last` along half a cosine wave."""
  waves = (math.cos(math.pi * t / (num_steps - 1)) for t in range(num_steps))
  return tuple(last * (1 - wave) / 2 for wave in waves)


def get_config() -> ml_collections.ConfigDict:
  """The digits' configuration with those rates instead of alpha0 and omega."""
  config = digits.get_config()
  config.chain.rates = cosine(config.chain.num_steps, last=0.45)
  return config
