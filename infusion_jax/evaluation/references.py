"""Metrics that know no model: what trivial ones and real images reach.

They stand in the same table as the model's own numbers, on the same images.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from infusion_jax import pixels
from infusion_jax.datasets import Dataset
from infusion_jax.evaluation.likelihoods import bits
from infusion_jax.evaluation.pictures import chosen_sigma
from infusion_jax.evaluation.protocol import Measurement
from infusion_jax.evaluation.session import Session, metric
from infusion_jax.likelihood import baselines
from infusion_jax.metrics import parzen

#: Metrics of the model that are log-densities of dequantized images.
_DENSITIES = {
  "bound",
  "importance",
  "importance_tuned",
  "isotropic",
  "ais",
  "ais_isotropic",
  "discrete",
  "ais_discrete",
  "exact",
}


def references_of(metrics: Sequence[str], dataset: Dataset) -> list[str]:
  """The metrics of this module that given ones are to be compared with."""
  added = []
  if _DENSITIES & set(metrics):
    added.append("histogram")
    small = math.prod(dataset.image_shape) <= baselines.MOST_PIXELS
    if small and dataset.levels != pixels.BITS:
      added.append("gaussian")
  if "parzen" in metrics:
    added.append("parzen_real")
  return added


@metric("histogram")
def histogram(session: Session) -> list[Measurement]:
  """One histogram of the training images for every pixel, all pixels independent."""
  dataset = session.dataset
  values = baselines.histogram(dataset.train, session.images, dataset.levels)
  return [_measured("histogram", session, values)]


@metric("gaussian")
def gaussian(session: Session) -> list[Measurement]:
  """One Gaussian with all covariances, fitted to the training images."""
  session.check_gaussian("gaussian", or_multimodal=True)
  dataset = session.dataset
  values = baselines.full_gaussian(dataset.train, session.images, dataset.levels)
  return [_measured("gaussian", session, values)]


def _measured(name: str, session: Session, values: np.ndarray) -> Measurement:
  protocol = session.described(session.images, dequantization=session.dequantization)
  return Measurement.of(name, values, protocol, bits(session, values))


@metric("parzen_real")
def parzen_of_real_images(session: Session) -> list[Measurement]:
  """The Parzen estimate with training images in the place of samples.

  A model above it is not better than real images: the estimate likes means of many
  images more than images.
  """
  protocol, dataset = session.protocol, session.dataset
  count = min(protocol.num_samples, len(dataset.train))
  order = np.asarray(jax.random.permutation(session.key("real"), len(dataset.train)))
  kernels = pixels.scaled(dataset.train[order[:count]], dataset.levels)
  sigma, _ = chosen_sigma(session, kernels)
  images = dataset.split(protocol.split)
  clean = pixels.scaled(images, dataset.levels)
  values = parzen.log_likelihood(clean, kernels, sigma)
  described = session.described(
    images, num_samples=count, samples="training images", sigma=sigma
  )
  return [Measurement.of("parzen_real", values, described)]
