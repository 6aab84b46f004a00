"""What is compared: infusion's model and those of its peers, with one face for both."""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from infusion_jax import peers, pixels, random, sampling
from infusion_jax.comparison import decoders
from infusion_jax.comparison.decoders import Annealing
from infusion_jax.datasets import Dataset
from infusion_jax.model import Model, PeerModel, keys_of
from infusion_jax.model.batches import in_batches
from infusion_jax.peers import Generator, Peer, Trained

Array = jax.Array
PyTree = Any
#: [N] nats of N integer images, or of the first of them; and what to say beside it.
Likelihood = Callable[[Array, np.ndarray], tuple[np.ndarray, dict[str, Any]]]

#: Pictures and images per compiled call.
_BATCH = 500
_LIKELIHOOD_BATCH = 60
#: Infusion chains an image for its bound and importance sampling.
_CHAINS = 50
#: Validation images that peers choose their settings on.
_CALIBRATION = 500


class Contestant(abc.ABC):
  """A trained method.

  Attributes:
    title: what tables call it.
    samplers: the names of its ways to make pictures.
    likelihoods: its estimates of log p by name.
  """

  title: str
  samplers: Sequence[str]
  likelihoods: dict[str, Likelihood]

  @abc.abstractmethod
  def calls(self, num_calls: int) -> int:
    """Network calls it makes where so many are allowed."""

  @abc.abstractmethod
  def batch(self, sampler: str, num_calls: int, keys: Array) -> Array:
    """Pictures [B, H, W, C] of [B] keys."""

  def pictures(
    self, sampler: str, num_calls: int, key: Array, count: int
  ) -> np.ndarray:
    """`count` pictures [N, H, W, C] in [0, 1]; picture i is a function of i alone."""
    draw = functools.partial(self.batch, sampler, num_calls)
    return in_batches(draw, keys_of(key, range(count)), size=_BATCH)


class Ours(Contestant):
  """Infusion: its chain, bound and importance sampling."""

  title = "infusion"
  samplers = ("chain",)

  def __init__(self, model: Model) -> None:
    """Takes a trained model."""
    self._model = model
    self.likelihoods = {
      f"bound, {_CHAINS} chains": functools.partial(self._estimate, "bound"),
      f"importance, {_CHAINS} chains": functools.partial(self._estimate, "importance"),
    }

  def calls(self, num_calls: int) -> int:
    """As many as its chain has steps."""
    return num_calls

  def batch(self, sampler: str, num_calls: int, keys: Array) -> Array:
    """Means of the last transition."""
    del sampler
    model = self._model
    markov = sampling.markov_chain(model.network, model.weights, num_calls)
    return next(sampling.means(markov, keys, len(keys)))

  def _estimate(
    self, field: str, key: Array, images: np.ndarray
  ) -> tuple[np.ndarray, dict[str, Any]]:
    return getattr(self._model.estimate(key, images, _CHAINS), field), {}


class Rival(Contestant):
  """A peer, with what it chooses on validation images."""

  def __init__(self, model: PeerModel, dataset: Dataset, annealing: Annealing) -> None:
    """Calibrates a trained peer; generators are annealed."""
    peer: Peer = model.network.peer
    trained = Trained.of(model.weights)
    key = random.named(jax.random.key(0), "calibration")
    x = pixels.dequantized(key, dataset.validation[:_CALIBRATION], dataset.levels)
    found = peer.calibrate(random.named(key, "noise"), trained, x)
    self._peer, self._levels = peer, dataset.levels
    self._trained = trained._replace(calibration=found)
    self.title, self.samplers = peer.title, tuple(peer.samplers)
    self.likelihoods = {
      name: functools.partial(self._estimate, name) for name in peer.likelihoods
    }
    if isinstance(peer, Generator):
      self.likelihoods["AIS"] = functools.partial(
        decoders.estimate, peer, trained.parameters, dataset, annealing
      )

  def calls(self, num_calls: int) -> int:
    """See `Peer.calls`."""
    return self._peer.calls(num_calls)

  def batch(self, sampler: str, num_calls: int, keys: Array) -> Array:
    """See `peers.pictures`."""
    return peers.pictures(self._peer, self._trained, keys, num_calls, sampler)

  def _estimate(
    self, name: str, key: Array, images: np.ndarray
  ) -> tuple[np.ndarray, dict[str, Any]]:

    def estimate(keys: Array, images: np.ndarray) -> Array:
      facts = self._peer, name, self._levels
      return _log_likelihood(*facts, keys, self._trained, images)

    keys = keys_of(key, range(len(images)))
    return in_batches(estimate, keys, images, size=_LIKELIHOOD_BATCH), {}


def contestant(model: Model, dataset: Dataset, annealing: Annealing) -> Contestant:
  """The face of a trained model."""
  if isinstance(model, PeerModel):
    return Rival(model, dataset, annealing)
  return Ours(model)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _log_likelihood(
  peer: Peer, name: str, levels: int, keys: Array, trained: Trained, images: Array
) -> Array:
  x = pixels.dequantized(random.named(keys, "dequantize"), images, levels)
  with jax.default_matmul_precision("highest"):
    return peer.likelihoods[name](random.named(keys, "chain"), trained, x)
