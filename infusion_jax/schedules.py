"""Infusion rates and per-step loss weights, as arrays over time.

A schedule is nothing but its array, so a chain compiled for one schedule runs
every other of the same length, and a table of schedules is one `vmap`.
Rates are alpha^(t) for t = 0 ... T-1, the states that are infused; loss weights
are for t = 1 ... T, the transitions that are learned.
"""

from collections.abc import Sequence

import numpy as np

from infusion_jax.errors import UserError

_ROUNDING = 1e-9


def linear(
  num_steps: int, alpha0: float, omega: float, *, repeat_first: bool = False
) -> np.ndarray:
  """The increasing schedule alpha^(t) = alpha0 + omega t (section 3.3.3.1).

  Args:
    num_steps: T, at least 1.
    alpha0: rate of the first state.
    omega: increase per step; 0 gives the constant schedule.
    repeat_first: apply alpha0 to both of the first two states, as the authors'
      released script does: alpha0, alpha0, alpha0 + omega, ...

  Returns:
    [T] float32 rates.

  Raises:
    UserError: T is below 1, or a rate leaves [0, 1].
  """
  _check_num_steps(num_steps)
  count = np.arange(num_steps, dtype=np.float64)
  if repeat_first:
    count = np.maximum(count - 1, 0)
  named = f"chain.alpha0 = {alpha0}, chain.omega = {omega}, num_steps = {num_steps}"
  return validated(alpha0 + omega * count, named)


def constant(num_steps: int, alpha: float) -> np.ndarray:
  """The constant schedule alpha^(t) = alpha, [T] float32 (figures A.1e, A.1f)."""
  return linear(num_steps, alpha, 0.0)


def validated(rates: Sequence[float] | np.ndarray, name: str = "rates") -> np.ndarray:
  """Any schedule given as numbers, checked.

  Args:
    rates: [T] numbers.
    name: what to call them in an error.

  Returns:
    [T] float32 rates.

  Raises:
    UserError: not a non-empty vector of finite numbers in [0, 1].
  """
  array = np.asarray(rates, np.float64)
  if array.ndim != 1 or array.size == 0:
    raise UserError(
      f"{name} has shape {array.shape}; infusion rates are a vector [T] with T >= 1"
    )
  # Rates like 0.3 - 3 * 0.1 miss 0 by rounding alone.
  wrong = np.flatnonzero(~((array >= -_ROUNDING) & (array <= 1 + _ROUNDING)))
  if wrong.size:
    t = int(wrong[0])
    raise UserError(
      f"{name} gives the infusion rate {array[t]:g} at step {t};"
      " every rate must lie in [0, 1]"
    )
  return np.clip(array, 0.0, 1.0).astype(np.float32)


def loss_weights(num_steps: int) -> np.ndarray:
  """The denoising criterion's weights t / T, t = 1 ... T, as [T] float32.

  They keep the larger gradients of the early transitions from dominating the
  shared parameters (thesis, footnote 3).

  Raises:
    UserError: T is below 1.
  """
  _check_num_steps(num_steps)
  return (np.arange(1, num_steps + 1) / num_steps).astype(np.float32)


def _check_num_steps(num_steps: int) -> None:
  if not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
    raise UserError(f"num_steps is {num_steps}; a chain has a whole number >= 1")
