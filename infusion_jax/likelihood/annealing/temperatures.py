"""Inverse temperatures of an annealing, from 0 to 1."""

import numpy as np

from infusion_jax.errors import UserError


def geometric(num_legs: int, first: float = 1e-6) -> np.ndarray:
  """0, then J values from `first` to 1 with equal ratios: [J+1] float64.

  Args:
    num_legs: J, at least 2.
    first: the smallest inverse temperature above 0. A narrow likelihood needs a
      small one: log p(x | eps) of noise from the prior may be -1e6 nats.

  Raises:
    UserError: J is below 2, or `first` not in (0, 1).
  """
  _check_legs(num_legs)
  if not 0 < first < 1:
    raise UserError(f"the first inverse temperature is {first}; it must be in (0, 1)")
  return np.append(0.0, np.geomspace(first, 1.0, num_legs))


def polynomial(num_legs: int, power: float = 2.5) -> np.ndarray:
  """beta_j = (j / J)^power: [J+1] float64.

  Spends most of its legs where the likelihood is sharp, unlike a geometric
  schedule, whose legs are half used up before it weighs a nat.

  Args:
    num_legs: J, at least 2.
    power: at least 1; 1 spaces evenly.

  Raises:
    UserError: J is below 2, or the power below 1.
  """
  _check_legs(num_legs)
  if not power >= 1:
    raise UserError(f"the power of the temperatures is {power}; it must be >= 1")
  return np.linspace(0.0, 1.0, num_legs + 1) ** power


def sigmoid(num_legs: int, slope: float = 4.0) -> np.ndarray:
  """Denser at both ends: a logistic curve over [-slope, slope], [J+1] float64.

  Args:
    num_legs: J, at least 2.
    slope: half the range of the logistic's argument, positive.

  Raises:
    UserError: J is below 2, or the slope not positive.
  """
  _check_legs(num_legs)
  if not slope > 0:
    raise UserError(f"the sigmoid's slope is {slope}; it must be positive")
  curve = 1.0 / (1.0 + np.exp(-np.linspace(-slope, slope, num_legs + 1)))
  return (curve - curve[0]) / (curve[-1] - curve[0])


def respaced(betas: np.ndarray, density: np.ndarray, num_legs: int) -> np.ndarray:
  """New temperatures with a given number of legs per unit of beta.

  Args:
    betas: [K+1] increasing from 0 to 1.
    density: [K], relative number of new legs per unit of beta on each old leg.
    num_legs: J, at least 2.

  Returns:
    [J+1] float64 from 0 to 1.

  Raises:
    UserError: J is below 2, or a density is negative or not finite.
  """
  _check_legs(num_legs)
  density = np.asarray(density, np.float64)
  if not np.all(np.isfinite(density) & (density >= 0)) or density.sum() == 0:
    raise UserError(
      "the density of temperatures must be finite, non-negative and not all zero;"
      f" it runs from {density.min()} to {density.max()}"
    )
  length = np.append(0.0, np.cumsum(density * np.diff(betas)))
  spaced = np.interp(np.linspace(0.0, length[-1], num_legs + 1), length, betas)
  spaced[[0, -1]] = 0.0, 1.0
  return spaced


NAMED = {"polynomial": polynomial, "geometric": geometric, "sigmoid": sigmoid}


def named(name: str, num_legs: int) -> np.ndarray:
  """One of `NAMED` with its own defaults, [J+1] float64.

  Raises:
    UserError: no schedule has that name, or J is below 2.
  """
  if name not in NAMED:
    raise UserError(f"temperatures are {name!r}; choose from {', '.join(NAMED)}")
  return NAMED[name](num_legs)


def _check_legs(num_legs: int) -> None:
  if int(num_legs) != num_legs or num_legs < 2:
    raise UserError(
      f"the number of temperatures is {num_legs}; annealing takes a whole number >= 2"
    )
