"""What is looked at while a run trains: pictures, chains, Parzen estimates."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import peers, pixels, random, sampling
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import clouds, plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.metrics import parzen
from infusion_jax.networks import Network
from infusion_jax.peers import PeerNetwork, Trained
from infusion_jax.sampling import Weights

Array = jax.Array
PyTree = Any

FOLDER = "samples"
_IMAGES = 64
_CHAINS = 8
_POINTS = 4096


def draw(
  workdir: pathlib.Path,
  network: Network | PeerNetwork,
  weights: Weights,
  key: Array,
  epoch: int,
) -> None:
  """A grid of sample means and a strip of chains, under `samples/`.

  Of points in the plane, the states of many chains at every step.
  """
  folder = workdir / FOLDER
  folder.mkdir(exist_ok=True)
  if isinstance(network, PeerNetwork):
    _draw_peer(folder, network, weights, key, epoch)
    return
  if clouds.are_points(network.image_shape):
    keys = jax.random.split(random.named(key, "preview"), _POINTS)
    states = _chains(sampling.markov_chain(network, weights), keys).states
    rows = np.array([clouds.cloud(step) for step in states])[None]
    plots.save(folder / f"epoch_{epoch:05d}_chains.png", plots.strip(rows))
    return
  keys = jax.random.split(random.named(key, "preview"), _IMAGES)
  markov = sampling.given(
    sampling.markov_chain(network, weights), _preview_labels(network)
  )
  chains = _chains(markov, keys)
  grid = plots.grid(np.asarray(chains.means[-1]))
  plots.save(folder / f"epoch_{epoch:05d}_samples.png", grid)
  rows = np.asarray(chains.means[:, :_CHAINS]).swapaxes(0, 1)
  plots.save(folder / f"epoch_{epoch:05d}_chains.png", _labelled(rows))


def _preview_labels(network: Network) -> Array | None:
  """All labels in turn, if there are any: [_IMAGES]."""
  if not network.num_classes:
    return None
  return jnp.arange(_IMAGES) % network.num_classes


_chains = jax.jit(sampling.chains)


def _draw_peer(
  folder: pathlib.Path, network: PeerNetwork, weights: Weights, key: Array, epoch: int
) -> None:
  """A grid of a rival method's pictures, or a cloud of its points."""
  points = clouds.are_points(network.image_shape)
  count = _POINTS if points else _IMAGES
  keys = jax.random.split(random.named(key, "preview"), count)
  images = peers.pictures(network.peer, Trained.of(weights), keys, network.num_steps)
  picture = clouds.cloud(np.asarray(images)) if points else plots.grid(images)
  plots.save(folder / f"epoch_{epoch:05d}_samples.png", picture)


def _labelled(means: np.ndarray) -> Picture:
  """Chains of means [R, T, H, W, C], one row each."""
  labels = [f"mean {t + 1}" for t in range(means.shape[1])]
  return plots.strip(means, column_labels=labels)


def parzen_estimate(
  network: Network, weights: Weights, key: Array, dataset: Dataset, num_samples: int
) -> dict[str, float]:
  """The Parzen estimate of the validation images, and its error, in nats per image.

  The chains are the same for the same key: a curve over epochs then shows the
  training alone.
  """
  keys = jax.random.split(random.named(key, "parzen"), num_samples)
  markov = sampling.markov_chain(network, weights)
  means = np.concatenate(list(sampling.means(markov, keys)))
  clean = pixels.scaled(jnp.asarray(dataset.validation), dataset.levels)
  found = parzen.evaluate(np.asarray(clean), means)
  return {"parzen": found.mean, "parzen_error": found.standard_error}
