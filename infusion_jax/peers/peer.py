"""What every rival method is: a loss of a mini-batch, pictures from keys, a likelihood.

A `Peer` is a frozen dataclass, so that a compiled program can depend on it. It takes
the place of the chain's network and criterion in `training`: the loop, checkpoints,
averaged weights and learning rates are the same for all.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from infusion_jax.chain import Infusion, Parameters
from infusion_jax.gaussian import Gaussian
from infusion_jax.objectives import Criterion
from infusion_jax.sampling import Weights
from infusion_jax.states.infusion import MIXTURE, Proposal

Array = jax.Array
PyTree = Any


class Trained(NamedTuple):
  """All that pictures and likelihoods of a trained peer are made from.

  Attributes:
    parameters: what `Peer.init` made, trained.
    prior: pixel means and variances of the training set, [H, W, C].
    calibration: what `Peer.calibrate` found on validation images.
  """

  parameters: PyTree
  prior: Gaussian
  calibration: PyTree = None

  @classmethod
  def of(cls, weights: Weights) -> "Trained":
    """A peer's part of what a checkpoint holds."""
    return cls(weights.parameters.shared, weights.infusion.prior)


#: Pictures [B, H, W, C] in [0, 1] from [B] keys with a number of network calls. That is
#: traced: one compiled program serves all numbers.
Sampler = Callable[[Trained, Array, Array], Array]

#: log p(x) or a bound of it, [B] nats, of key(s), peer and dequantized [B, H, W, C].
LogLikelihood = Callable[[Array, Trained, Array], Array]


@dataclasses.dataclass(frozen=True)
class Peer(abc.ABC):
  """A rival method.

  Attributes:
    image_shape: (H, W, C).
    hidden_sizes: of its perceptrons, the same for every method of a comparison.
    title: what tables call it.
    passes: forward and backward passes through a perceptron in one mini-batch.
    rate: factor of the learning rate.
    selects: whether the validation loss tells which epoch was best; if not, the last.
    needs: a library of the extra "peers" that must be there, by its name in imports.
  """

  image_shape: tuple[int, int, int]
  hidden_sizes: tuple[int, ...]

  title = ""
  passes = 1
  rate = 1.0
  selects = True
  needs = ""

  @property
  def size(self) -> int:
    """Numbers of an image, H W C."""
    return math.prod(self.image_shape)

  @abc.abstractmethod
  def init(self, key: Array) -> PyTree:
    """Initial parameters."""

  @abc.abstractmethod
  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """The criterion on a mini-batch [B, H, W, C] of dequantized images, a scalar."""

  @property
  @abc.abstractmethod
  def samplers(self) -> Mapping[str, Sampler]:
    """Ways to make pictures, by name; the first is the paper's own."""

  def calls(self, num_calls: int) -> int:
    """Network calls that are made where so many are allowed."""
    return num_calls

  def calibrate(self, key: Array, trained: Trained, x: Array) -> PyTree:
    """What is chosen on validation images [N, H, W, C] after training."""
    del key, trained, x
    return None

  @property
  def likelihoods(self) -> Mapping[str, LogLikelihood]:
    """Estimates of log p(x) by what they are: "bound", "exact"; none by default."""
    return {}

  @property
  def origin(self) -> "Peer | None":
    """The method whose trained parameters it needs to begin with."""
    return None

  def start(self, parameters: PyTree) -> PyTree:
    """Parameters to begin with, from trained ones: its own, or those of `origin`."""
    return parameters

  def criterion(
    self, key: Array, parameters: Parameters, x: Array, infusion: Infusion
  ) -> Criterion:
    """Loss and gradient as `training` wants them."""

    def loss(parameters: Parameters) -> Array:
      return self.loss(key, parameters.shared, x, infusion.prior)

    value, gradient = jax.value_and_grad(loss)(parameters)
    return Criterion(value, gradient, None, {})


@dataclasses.dataclass(frozen=True)
class PeerNetwork:
  """A peer where `training` expects a `networks.Network`: what it asks of one.

  Attributes:
    peer: the method.
    num_steps: of the configuration's chain, which a peer does not use.
    num_classes: peers know no labels.
    distribution: of the prior that is stored beside the weights.
    proposal: a peer has none; what is stored names this one.
  """

  peer: Peer
  num_steps: int
  num_classes: int = 0
  distribution: type[Gaussian] = Gaussian
  proposal: Proposal = MIXTURE

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.peer.image_shape

  def of_states(self, value: Array) -> Gaussian:
    """See `networks.Network`."""
    return self.distribution(value, value)

  def init(self, key: Array) -> tuple[Parameters, PyTree]:
    """Initial parameters; no batch statistics."""
    return Parameters(jax.jit(self.peer.init)(key), {}), {}


def flat(x: Array) -> Array:
  """[B, H, W, C] as [B, H W C]."""
  return x.reshape(len(x), -1)


def pictures(
  peer: Peer, trained: Trained, keys: Array, num_calls: int, sampler: str | None = None
) -> Array:
  """Pictures [B, H, W, C] of [B] keys; picture i depends on key i alone.

  Args:
    peer: the method.
    trained: what it has learned.
    keys: [B].
    num_calls: network calls, at most.
    sampler: one of `peer.samplers`; the first if None.
  """
  name = sampler or next(iter(peer.samplers))
  return _pictures(peer, name, trained, keys, jnp.asarray(num_calls))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pictures(
  peer: Peer, sampler: str, trained: Trained, keys: Array, num_calls: Array
) -> Array:
  return peer.samplers[sampler](trained, keys, num_calls)
