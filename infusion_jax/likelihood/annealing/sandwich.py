"""The sandwich: how far off an annealing is (bidirectional Monte Carlo).

An image simulated from the model comes with the very noise that made it: an
exact sample of the posterior. Annealing backwards from there, beta = 1 ... 0,
gives weights whose mean estimates 1 / p(x) without bias, so that minus its log
is in expectation an upper bound of log p(x) (Grosse et al., 2015), while the
forward annealing gives a lower one. The true value lies between, and the gap
is all the error there can be, on images of this model at these settings.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from infusion_jax import random
from infusion_jax.chain import MarkovChain
from infusion_jax.likelihood.annealing import estimator
from infusion_jax.likelihood.annealing.decoder import Decoder, decoder_of
from infusion_jax.likelihood.summary import Summary, summarize

Array = jax.Array
PyTree = Any


class Simulated(NamedTuple):
  """Images of the model, and the noise that made them.

  Attributes:
    x: [N, H, W, C], draws from p^(T)(. | eps).
    noise: eps, [N, T, H, W, C].
  """

  x: Array
  noise: Array


class Sandwich(NamedTuple):
  """Bounds of log p(x) on simulated images, in expectation.

  Attributes:
    lower: [N] nats, from forward annealing.
    upper: [N] nats, from reverse annealing.
  """

  lower: np.ndarray
  upper: np.ndarray

  @property
  def gap(self) -> Summary:
    """Upper minus lower bound."""
    return summarize(self.upper - self.lower)


def simulate(
  keys: Array,
  model: MarkovChain | Decoder,
) -> Simulated:
  """Draws noise, and an image from the likelihood given it.

  Args:
    keys: [N], one per image.
    model: the chain, or another decoder.

  Returns:
    The images and their noise.
  """
  decoder = decoder_of(model)
  shape = (keys.shape[0], *decoder.noise_shape)
  noise = random.normal(random.named(keys, "noise"), shape)
  return Simulated(decoder.draw(random.named(keys, "output"), noise), noise)


def bounds(
  keys: Array,
  model: MarkovChain | Decoder,
  simulated: Simulated,
  schedule: estimator.Schedule,
  **options: Any,
) -> Sandwich:
  """Anneals simulated images forwards, and backwards from their noise.

  Args:
    keys: [N], one per image; each direction derives its own.
    model: the chain, or another decoder.
    simulated: the images and their noise.
    schedule: temperatures and step sizes, the same for both directions.
    **options: of `annealed.run`.

  Returns:
    Both bounds.
  """
  forward = estimator.estimate(
    random.named(keys, "forward"), model, simulated.x, schedule, **options
  )
  backward = estimator.estimate(
    random.named(keys, "backward"),
    model,
    simulated.x,
    schedule.backwards(),
    noise=simulated.noise,
    **options,
  )
  return Sandwich(forward, -backward)
