"""A transition of your own: a chain that makes digits without any training.

  python examples/own_transition.py digits.png

A transition is a function (step, z) -> (Gaussian, report). This one answers with the
mean of all training images, weighted by how near they are to the state; the later
the step, the fewer images count. A chain that only copies is no model, but samples,
infusion chains and bounds work with it as with a trained one.
"""

import sys

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from infusion_jax import chain, datasets, objectives, sampling
from infusion_jax.config import DataConfig
from infusion_jax.drawing import plots
from infusion_jax.gaussian import Gaussian

T = 12
WIDTHS = jnp.geomspace(1.0, 0.3, T)  # one row a step: the kernel's width


def nearest(images: jax.Array, width: jax.Array, z: jax.Array) -> tuple[Gaussian, None]:
  """Pulls states [B, H, W, C] towards the training images [N, H, W, C] near them."""
  distances = jnp.square(z[:, None] - images).sum((2, 3, 4))
  weights = jax.nn.softmax(-distances / (2 * width**2))
  mean = jnp.tensordot(weights, images, 1)
  return Gaussian(mean, jnp.full_like(mean, 0.1 * width**2)), None


def main(out: str) -> None:
  """Draws 64 images into a file and prints the chain's bound."""
  digits = datasets.from_config(DataConfig())
  prior = chain.fit_prior(digits.train, 1 / digits.levels, 1e-5)
  infusion = chain.Infusion(prior, rates=0.02 * jnp.arange(T), target_variance=1e-4)
  train = (digits.train + 0.5) / digits.levels
  markov = chain.MarkovChain(Partial(nearest, train), WIDTHS, infusion)
  keys = jax.random.split(jax.random.key(0), 64)
  pictures = jax.jit(sampling.predict)(markov, keys).mean
  plots.save(out, plots.grid(pictures))
  x = (digits.test[:64] + 0.5) / digits.levels
  terms, _ = jax.jit(objectives.bound)(keys[0], markov, x)
  print(f"wrote {out}; lower bound {terms.bound.mean():.1f} nats per image")


if __name__ == "__main__":
  main(sys.argv[1])
