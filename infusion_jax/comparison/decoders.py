"""Annealed importance sampling of methods that decode noise, as Wu et al. (2017) do.

"On the quantitative analysis of decoder-based generative models": the output is a
Gaussian around the decoded mean. Its variance is the learned one, or the best of a few
on validation images.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from infusion_jax import likelihood, random
from infusion_jax.datasets import Dataset
from infusion_jax.likelihood.annealing import driver
from infusion_jax.likelihood.annealing.decoder import Decoder
from infusion_jax.peers import Generator

Array = jax.Array
PyTree = Any

#: Output variances to choose from, those of the paper's table 1 among them.
VARIANCES = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.05, 0.1)
#: Validation images and temperatures of that choice.
_SEARCH_IMAGES, _SEARCH_TEMPERATURES = 10, 100
#: Images annealed together.
_BATCH = 50


class Annealing(NamedTuple):
  """How decoders are annealed.

  Attributes:
    images: how many, at most.
    temperatures: J.
  """

  images: int = 50
  temperatures: int = 1000


def estimate(
  peer: Generator,
  parameters: PyTree,
  dataset: Dataset,
  annealing: Annealing,
  key: Array,
  images: np.ndarray,
) -> tuple[np.ndarray, dict[str, float]]:
  """log p of integer images, [N] nats, with the variance and the sandwich's gap."""
  variance = peer.output_variance(parameters)
  if variance is None:
    variance = choose_variance(key, peer, parameters, dataset)
  model = peer.output(parameters, variance)
  settings = driver.Annealing(num_legs=annealing.temperatures)
  images = images[: annealing.images]
  values = anneal(key, model, images, settings, dataset.levels)
  gap = driver.evaluate_sandwich(
    random.named(key, "sandwich"), model, settings, num_images=16
  ).gap
  return values, {
    "variance": float(variance),
    "gap": gap.mean,
    "gap_error": gap.standard_error,
    "temperatures": settings.num_legs,
    "chains": settings.num_chains,
  }


def choose_variance(
  key: Array, peer: Generator, parameters: PyTree, dataset: Dataset
) -> float:
  """The variance of `VARIANCES` under which validation images are most likely."""
  images = dataset.validation[:_SEARCH_IMAGES]
  settings = driver.Annealing(num_legs=_SEARCH_TEMPERATURES, num_chains=2)
  key = random.named(key, "variance")
  found = [
    likelihood.summarize(
      anneal(key, peer.output(parameters, v), images, settings, dataset.levels)
    ).mean
    for v in VARIANCES
  ]
  return VARIANCES[int(np.argmax(found))]


def anneal(
  key: Array,
  model: Decoder,
  images: np.ndarray,
  settings: driver.Annealing,
  levels: int,
) -> np.ndarray:
  """Annealed importance sampling of dequantized images, [N] nats."""
  batches = driver.anneal_batches(
    key, model, images, settings, levels=levels, batch_size=min(_BATCH, len(images))
  )
  return np.concatenate([b.estimate for b in batches if b.stage.finished])
