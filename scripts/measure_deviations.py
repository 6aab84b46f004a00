"""What some deviations of docs/deviations.md change, on the shipped digits.

  python -m scripts.measure_deviations

Prints mean differences image by image over the 360 test images, with their standard
errors: the shipped model as the authors' script would treat it, minus as it is
treated here. Nothing is trained: only what comes after training is changed.
"""

import dataclasses
import pathlib
import tempfile

import jax
import numpy as np

import infusion_jax
from infusion_jax import chain, datasets, evaluation, networks
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.likelihood import Gap, summarize
from infusion_jax.model import Model

_CHECKPOINT = pathlib.Path(__file__).parent.parent / "results/checkpoints/digits"
_CHAINS = 50


def main() -> None:
  """Measures and prints."""
  model = infusion_jax.load(_CHECKPOINT)
  dataset = datasets.from_config(model.config.data)
  noise = np.random.default_rng(0).uniform(size=dataset.test.shape)
  x = _noisy(dataset, noise)
  wider = _noisy(dataset, noise * 256 / 255)
  here = model.estimate(jax.random.key(0), x, _CHAINS)
  for name, changed, images in (
    ("prior of clean pixels", _clean_prior(model, dataset), x),
    ("batch statistics of one batch of all images", _one_batch(model, dataset), x),
    ("noise U(0, 1/255) instead of U(0, 1/256)", model, wider),
  ):
    there = changed.estimate(jax.random.key(0), images, _CHAINS)
    print(
      f"{name}: bound {_gap(there.bound, here.bound)}, importance sampling"
      f" {_gap(there.importance, here.importance)} nats"
    )
  means = _parzen(model, dataset)
  floor = _parzen(_lower_floor(model, dataset), dataset)
  draws = _parzen(model, dataset, samples="draws")
  print(f"samples with a variance floor of 1e-5: Parzen {_gap(floor, means)} nats")
  print(f"draws instead of means: Parzen {_gap(draws, means)} nats")


def _noisy(dataset: datasets.Dataset, noise: np.ndarray) -> np.ndarray:
  """Test images with noise of at most one grey level, cut at 1."""
  return np.minimum((dataset.test + noise) / dataset.levels, 1.0).astype(np.float32)


def _gap(values: np.ndarray, others: np.ndarray) -> Gap:
  found = summarize(np.subtract(values, others))
  return Gap(found.mean, found.standard_error)


def _clean_prior(model: Model, dataset: datasets.Dataset) -> Model:
  """The maximum-likelihood prior of pixels without dequantization noise."""
  scale, floor = 1 / dataset.levels, model.config.chain.prior_floor
  prior = chain.fit_prior(dataset.train, scale, floor)
  prior = prior._replace(
    mean=prior.mean - scale / 2, variance=prior.variance - scale**2 / 12
  )
  infusion = model.weights.infusion._replace(prior=prior)
  return dataclasses.replace(model, weights=model.weights._replace(infusion=infusion))


def _one_batch(model: Model, dataset: datasets.Dataset) -> Model:
  """Means and variances over all training images, instead of means over batches."""
  train = dataclasses.replace(model.config.train, batch_size=len(dataset.train))
  changed = dataclasses.replace(
    model,
    config=dataclasses.replace(model.config, train=train),
    about={**model.about, "statistics": "running"},
  )
  found = evaluation.with_population_statistics(changed, dataset)
  return dataclasses.replace(model, weights=found.weights)


def _lower_floor(model: Model, dataset: datasets.Dataset) -> Model:
  lower = dataclasses.replace(model.config.chain, variance_floor=1e-5)
  network = networks.build(model.config.model, lower, dataset.image_shape)
  return dataclasses.replace(model, network=network)


def _parzen(model: Model, dataset: datasets.Dataset, **protocol: str) -> np.ndarray:
  """Parzen estimates of the test images from 10,000 samples, sigma = 0.17."""
  with tempfile.TemporaryDirectory() as folder:
    session = Session(model, dataset, Protocol(**protocol), pathlib.Path(folder), False)
    (row,) = session.measure("parzen")
  return np.array(row["details"]["per_image"])


if __name__ == "__main__":
  main()
