"""bfloat16 products do not move the bound of trained weights by more than noise."""

import dataclasses

import jax
import numpy as np
import pytest
from launching import DIGITS

from infusion_jax import datasets, evaluation, networks
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.model import load


@pytest.fixture(scope="module")
def models():
  """The shipped digits in both precisions, with the same weights."""
  full = load(DIGITS)
  config = dataclasses.replace(
    full.config, model=dataclasses.replace(full.config.model, dtype="bfloat16")
  )
  half = networks.build(config.model, config.chain, full.image_shape)
  return full, dataclasses.replace(full, config=config, network=half)


def test_the_bound_stays(models, tmp_path_factory):
  protocol = Protocol(num_images=100, num_chains=4)
  dataset = datasets.from_config(models[0].config.data)
  # In one folder the second would find what the first has measured.
  folders = (tmp_path_factory.mktemp(name) for name in ("full", "half"))
  full, half = (
    evaluation.METRICS["bound"](
      Session(model, dataset, protocol, folder, progress=False)
    )[0]
    for model, folder in zip(models, folders, strict=True)
  )
  assert full.value != half.value
  assert abs(full.value - half.value) < full.standard_error


def test_pictures_are_float32_and_alike(models):
  full, half = (model.sample(jax.random.key(0), 4) for model in models)
  assert full.dtype == half.dtype == np.float32
  assert 0 < np.abs(full - half).mean() < 0.05
