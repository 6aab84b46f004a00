"""Parzen-window log-likelihood (figure 3.4, after Goodfellow et al. 2014).

The density is a mixture of one Gaussian kernel per sample,

    log p(x) = logsumexp_n(-|x - m_n|^2 / (2 sigma^2))
               - log N - D/2 log(2 pi sigma^2),

with the means m_n of the model's last transition and clean scaled test images
(no dequantization noise). Squared distances come from one matrix product,
`|x|^2 - 2 x.m + |m|^2`, of centred data: what cancels is then as small as it can
be, and float32 stays within 0.1 nat of float64 (sigma = 0.17: within 1e-3).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax.errors import UserError
from infusion_jax.likelihood.summary import Summary, summarize

Array = jax.Array

SIGMA = 0.17


class SigmaSearch(NamedTuple):
  """A search for the kernel's width on validation images.

  Attributes:
    sigmas: [S].
    log_likelihood: [S], mean over the images, nats.
    standard_error: [S], over the images.
    best: the sigma of the largest mean.
  """

  sigmas: np.ndarray
  log_likelihood: np.ndarray
  standard_error: np.ndarray
  best: float


def log_likelihood(
  images: np.ndarray,
  means: np.ndarray,
  sigma: float | np.ndarray = SIGMA,
  *,
  chunk_size: int = 500,
) -> np.ndarray:
  """Log-density of images under Gaussian kernels at `means`.

  Holds `chunk_size` x N distances at a time; they serve every sigma.

  Args:
    images: [M, ...] reals, clean pixels in [0, 1).
    means: [N, ...] sample means.
    sigma: width of the kernel, or [S] widths.
    chunk_size: images per compiled call.

  Returns:
    [M] nats, or [S, M].

  Raises:
    UserError: a sigma is not positive, a set is empty, or shapes disagree.
  """
  sigmas = np.atleast_1d(np.asarray(sigma, np.float64))
  _check(images, means, sigmas)
  images = np.asarray(images, np.float32).reshape(len(images), -1)
  means = np.asarray(means, np.float32).reshape(len(means), -1)
  center = means.mean(0, dtype=np.float64).astype(np.float32)
  kernels = jnp.asarray(means - center)
  halves = (0.5 / np.square(sigmas)).astype(np.float32)
  parts = []
  for first in range(0, len(images), chunk_size):
    rows = images[first : first + chunk_size] - center
    # Filled up, so that one compiled program serves the last chunk too.
    filled = np.pad(rows, ((0, min(chunk_size, len(images)) - len(rows)), (0, 0)))
    parts.append(np.asarray(_log_sums(filled, kernels, halves))[:, : len(rows)])
  count, size = means.shape
  constant = math.log(count) + 0.5 * size * np.log(2.0 * math.pi * np.square(sigmas))
  values = np.concatenate(parts, 1).astype(np.float64) - constant[:, None]
  return values if np.ndim(sigma) else values[0]


def evaluate(
  images: np.ndarray, means: np.ndarray, sigma: float = SIGMA, **options: int
) -> Summary:
  """Mean Parzen log-likelihood of test images and its standard error.

  Args:
    images: [M, ...] clean test images in [0, 1).
    means: [N, ...] sample means, 10,000 in the published protocol.
    sigma: width of the kernel.
    **options: of `log_likelihood`.

  Returns:
    Nats per image.
  """
  return summarize(log_likelihood(images, means, sigma, **options))


def choose_sigma(
  images: np.ndarray,
  means: np.ndarray,
  sigmas: np.ndarray | None = None,
  **options: int,
) -> SigmaSearch:
  """Tries a grid of widths on validation images.

  Args:
    images: [M, ...] clean validation images.
    means: [N, ...] sample means.
    sigmas: [S] widths; ten from 0.05 to 0.5, geometric, and 0.17, if None.
    **options: of `log_likelihood`.

  Returns:
    The search.
  """
  if sigmas is None:
    sigmas = np.sort(np.append(np.geomspace(0.05, 0.5, 10), SIGMA))
  values = log_likelihood(images, means, np.asarray(sigmas), **options)
  rows = [summarize(row) for row in values]
  mean = np.array([row.mean for row in rows])
  error = np.array([row.standard_error or math.nan for row in rows])
  return SigmaSearch(np.asarray(sigmas), mean, error, float(sigmas[mean.argmax()]))


@jax.jit
def _log_sums(images: Array, kernels: Array, halves: Array) -> Array:
  """logsumexp_n(-half |x - m_n|^2), [S, M], of centred rows."""
  # Full float32: the reduced precision of accelerators would cost whole nats.
  product = jnp.matmul(images, kernels.T, precision=jax.lax.Precision.HIGHEST)
  squares = functools.partial(jnp.sum, axis=-1)
  distance = (
    squares(jnp.square(images))[:, None]
    + squares(jnp.square(kernels))[None, :]
    - 2.0 * product
  )
  distance = jnp.maximum(distance, 0.0)
  nearest = distance.min(-1)

  def log_sum(half: Array) -> Array:
    rest = jnp.exp(-half * (distance - nearest[:, None])).sum(-1)
    return jnp.log(rest) - half * nearest

  return jax.lax.map(log_sum, halves)


def _check(images: np.ndarray, means: np.ndarray, sigmas: np.ndarray) -> None:
  if len(images) == 0 or len(means) == 0 or images.shape[1:] != means.shape[1:]:
    raise UserError(
      f"images have shape {images.shape} and sample means {means.shape};"
      " both must be non-empty and agree in all but the first axis"
    )
  if (
    sigmas.ndim != 1
    or sigmas.size == 0
    or not np.all(np.isfinite(sigmas) & (sigmas > 0))
  ):
    raise UserError(f"parzen sigma is {sigmas}; a width must be positive and finite")
