"""What a column of log-likelihoods comes to, and its units."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from infusion_jax.errors import UserError


class Summary(NamedTuple):
  """Mean log-likelihood of a set of images, and how sure it is.

  Attributes:
    mean: over images and repetitions, nats per image.
    standard_error: of the mean, over images: how far another set of images of
      this size would move it. None for a single image.
    deviation: standard deviation over repetitions of the mean over images: how
      far another run on these images would move it. None for one repetition.
  """

  mean: float
  standard_error: float | None
  deviation: float | None


class Gap(NamedTuple):
  """How far one number is above another, and how sure that is.

  Attributes:
    value: the difference.
    error: its standard error; None where neither number has one.
  """

  value: float
  error: float | None

  @classmethod
  def between(
    cls,
    value: float,
    error: float | None,
    other: float,
    other_error: float | None = None,
  ) -> "Gap":
    """How far `value` is above `other`, independently measured: errors add squared."""
    errors = [each for each in (error, other_error) if each is not None]
    return cls(value - other, math.hypot(*errors) if errors else None)

  @property
  def verdict(self) -> str:
    """ "above" or "below" by more than two standard errors, or "within the error"."""
    if abs(self.value) <= 2.0 * (self.error or 0.0):
      return "within the error"
    return "above" if self.value > 0 else "below"

  def __str__(self) -> str:
    """The difference with its sign and its error."""
    if self.error is None:
      return f"{self.value:+.4g}"
    return f"{self.value:+.2f} ± {self.error:.2f}"


def summarize(values: np.ndarray) -> Summary:
  """Summarizes [N] log-likelihoods, or [R, N] of R repetitions.

  Args:
    values: nats per image.

  Returns:
    Mean, standard error over images, deviation over repetitions.

  Raises:
    UserError: `values` is empty or of another rank.
  """
  values = np.asarray(values, np.float64)
  if values.ndim not in (1, 2) or values.size == 0:
    raise UserError(
      f"values has shape {values.shape}; a summary takes [N] or [R, N], not empty"
    )
  values = np.atleast_2d(values)
  repetitions, images = values.shape
  error = values.mean(0).std(ddof=1) / math.sqrt(images) if images > 1 else None
  deviation = values.mean(1).std(ddof=1) if repetitions > 1 else None
  return Summary(
    float(values.mean()),
    None if error is None else float(error),
    None if deviation is None else float(deviation),
  )


def bits_per_dimension(
  nats: float | np.ndarray, image_shape: Sequence[int], levels: int
) -> float | np.ndarray:
  """Log-likelihood as bits per dimension of the integer image; less is better.

      bits = (D log(levels) - nats) / (D log 2),    D = H W C

  This assumes uniform dequantization: `nats` is the log-density of
  x = (v + u) / levels, u ~ U(0, 1), for an integer image v in 0 ... levels - 1
  (`pixels.dequantized`). Its mean over u is a lower bound of log P(v) +
  D log(levels), so the bits are an upper bound of the code length of v. A
  density of clean or otherwise scaled pixels has no such meaning.

  Args:
    nats: log p(x) per image, natural logarithm.
    image_shape: (H, W, C).
    levels: number of grey levels, 256 for bytes; 1 for bits, whose nats are log P(v).

  Returns:
    Bits per dimension, of the shape of `nats`.

  Raises:
    UserError: `levels` is below 1 or the shape is empty.
  """
  size = math.prod(image_shape)
  if levels < 1:
    raise UserError(f"levels is {levels}; a quantized pixel has 2, a bit has 1")
  if size < 1:
    raise UserError(f"image_shape is {tuple(image_shape)}; every side is at least 1")
  return (math.log(levels) - nats / size) / math.log(2.0)
