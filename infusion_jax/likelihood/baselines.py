"""What trivial models say of the same images: the least a likelihood should beat.

All densities are those of x = (v + u) / levels, u ~ U(0, 1), for an integer image v,
as the model's own are, in nats per image.
"""

import math

import numpy as np
import scipy.linalg

from infusion_jax.errors import UserError

#: Added to the counts of every grey value of a pixel, shared out among the values.
PSEUDO_COUNT = 1.0
#: A covariance of more pixels does not fit a small machine's memory.
MOST_PIXELS = 4096
_CHUNK = 2000


def histogram(train: np.ndarray, images: np.ndarray, levels: int) -> np.ndarray:
  """Log-density of images under one histogram a pixel, all pixels independent.

  Each probability is (count + a / levels) / (N + a) with a = `PSEUDO_COUNT`, so that a
  value that a pixel never had in training is not impossible.

  Args:
    train: [N, H, W, C] integers the histograms are counted on.
    images: [M, H, W, C] integers.
    levels: grey levels, or `pixels.BITS`.

  Returns:
    [M] nats. The density is constant within a grey level, so this is at the same time
    log P(v) + D log(levels).
  """
  train, images = (_rows(values) for values in (train, images))
  values = max(levels, 2)  # Bits have two values at one level.
  total = np.zeros(len(images))
  for pixel in range(train.shape[1]):
    counts = np.bincount(train[:, pixel], minlength=values)
    smooth = (counts + PSEUDO_COUNT / values) / (len(train) + PSEUDO_COUNT)
    total += np.log(smooth)[images[:, pixel]]
  return total + train.shape[1] * math.log(levels)


def full_gaussian(
  train: np.ndarray, images: np.ndarray, levels: int, floor: float = 0.0
) -> np.ndarray:
  """Mean log-density of images under a Gaussian with all covariances.

  Mean and covariance are the maximum-likelihood ones of the dequantized training
  images; what the dequantization noise adds to them is known in closed form, and so is
  the mean of the result over the noise of the images.

  Args:
    train: [N, H, W, C] integers.
    images: [M, H, W, C] integers.
    levels: grey levels.
    floor: added to every variance.

  Returns:
    [M] nats.

  Raises:
    UserError: there are more than `MOST_PIXELS` pixels.
  """
  train, images = (_rows(values) for values in (train, images))
  size = train.shape[1]
  if size > MOST_PIXELS:
    raise UserError(
      f"images have {size} values; a Gaussian with all covariances takes at most"
      f" {MOST_PIXELS}"
    )
  mean = train.mean(0)
  covariance = np.zeros((size, size))
  for first in range(0, len(train), _CHUNK):
    centred = train[first : first + _CHUNK] - mean
    covariance += centred.T @ centred / len(train)
  noise = 1 / 12  # The variance of u ~ U(0, 1).
  covariance[np.diag_indices(size)] += noise + floor * levels**2
  factor = scipy.linalg.cho_factor(covariance, lower=True)
  offsets = (images - mean).T
  squares = (offsets * scipy.linalg.cho_solve(factor, offsets)).sum(0)
  spread = noise * np.trace(scipy.linalg.cho_solve(factor, np.eye(size)))
  log_determinant = 2.0 * np.log(np.diag(factor[0])).sum()
  # The density of v + u; dividing by the levels adds the change of volume.
  constant = log_determinant + size * math.log(2.0 * math.pi)
  return -0.5 * (squares + spread + constant) + size * math.log(levels)


def _rows(images: np.ndarray) -> np.ndarray:
  return np.asarray(images, np.int64).reshape(len(images), -1)
