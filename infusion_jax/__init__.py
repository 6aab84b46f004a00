"""Infusion training: a Markov chain learns to turn noise into images.

The rooms, from the ground up (a module imports only from those above it):
`gaussian`, `schedules`, `chain`, `objectives`, `likelihood`, `networks`,
`datasets`, `metrics`, `plots`, `training`, `model`.
"""

from infusion_jax.errors import UserError

__version__ = "0.1.0"

__all__ = ["UserError", "__version__"]
