"""What a model of points in the plane has learned: its density, and its chains."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import pixels, random, sampling
from infusion_jax.chain import MarkovChain
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import plots
from infusion_jax.drawing.clouds import cloud, of_density
from infusion_jax.drawing.tiles import Picture
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import quadrature
from infusion_jax.model import Model

Array = jax.Array

_CHAINS = 8192
_CELLS = 128


class Density(NamedTuple):
  """A model of points beside its data.

  Attributes:
    picture: training points, samples of the model, and its exact density.
    steps: the chain of the model, and the infusion chain, step by step.
    log_likelihood: exact, of dequantized test points, [N] nats.
  """

  picture: Picture
  steps: Picture
  log_likelihood: np.ndarray


def look(model: Model, dataset: Dataset, key: Array) -> Density:
  """Draws the density of a model of points and its chains.

  Args:
    model: of images of two numbers.
    dataset: its data.
    key: decides samples, chains and dequantization.

  Raises:
    UserError: the model is of other images, or its mass does not lie near the square.
  """
  quadrature.check_two_numbers(model.image_shape)
  markov = sampling.markov_chain(model.network, model.weights)
  train, test = (
    pixels.dequantized(random.named(key, name), jnp.asarray(images), dataset.levels)
    for name, images in (("train", dataset.train), ("test", dataset.test))
  )
  masses = quadrature.whole(markov)
  keys = jax.random.split(random.named(key, "chains"), _CHAINS)
  states, draws = _model_chains(markov, keys)
  infused = _infused(markov, keys, train[np.arange(_CHAINS) % len(train)])
  density = quadrature.density(masses, (jnp.arange(_CELLS) + 0.5) / _CELLS)
  parts = [cloud(train), cloud(draws), of_density(density)]
  names = ["training points", "samples", "exact density"]
  return Density(
    plots.strip(np.stack(parts)[None], column_labels=names, scale=2),
    _steps([*states, draws], [*infused, train]),
    np.asarray(quadrature.log_likelihood(masses, test)),
  )


def _steps(model_row: list[Array], infusion_row: list[Array]) -> Picture:
  rows = [[cloud(states) for states in row] for row in (model_row, infusion_row)]
  labels = [f"t = {t}" for t in range(len(model_row) - 1)] + ["x"]
  names = ["model chain", "infusion chain"]
  return plots.strip(np.array(rows), None, labels, names, scale=1)


@jax.jit
def _model_chains(markov: MarkovChain, keys: Array) -> tuple[Array, Array]:
  found = sampling.chains(markov, keys)
  last = Gaussian(found.means[-1], found.variances[-1])
  return found.states, sampling.draw(keys, last)


@jax.jit
def _infused(markov: MarkovChain, keys: Array, x: Array) -> Array:
  return sampling.infusion_chains(markov, keys, x).states
