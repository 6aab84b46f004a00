"""Methods that decode noise in one go: noise -> network -> the mean of a picture."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from infusion_jax import random
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood.annealing.decoder import Decoder
from infusion_jax.peers import perceptron
from infusion_jax.peers.peer import Peer, Sampler, Trained
from infusion_jax.peers.perceptron import Perceptron

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Generator(Peer):
  """A peer that is a deterministic decoder of standard normal noise.

  With an output variance its likelihood is that of a Gaussian around the decoded mean
  (Wu et al., 2017, "On the quantitative analysis of decoder-based generative models").

  Attributes:
    noise_size: numbers of the noise.
  """

  noise_size: int = 50

  def decode(self, parameters: PyTree, noise: Array) -> Array:
    """Means [B, H, W, C] in [0, 1] of noise [B, noise_size]."""
    raw = perceptron.call(self.decoder, parameters["decoder"], noise)
    return jax.nn.sigmoid(raw).reshape(-1, *self.image_shape)

  def output_variance(self, parameters: PyTree) -> Array | None:
    """The variance of the output, where it was learned."""
    del parameters
    return None

  def output(self, parameters: PyTree, variance: Array) -> Decoder:
    """p(x | noise) with an output variance, as annealing takes it."""
    function = Partial(_Output(self), parameters, jnp.asarray(variance, jnp.float32))
    return Decoder(function, (self.noise_size,))

  def noise(self, key: Array, count: int) -> Array:
    """Standard normal noise, [count, noise_size]."""
    return random.normal(key, (count, self.noise_size))

  def calls(self, num_calls: int) -> int:
    """One."""
    return 1

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """Means of the decoder."""
    return {"decoder": self._sample}

  def _sample(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    del num_calls
    return self.decode(trained.parameters, self.noise(keys, len(keys)))

  @property
  def decoder(self) -> Perceptron:
    """Its network; the size of its inputs is the caller's choice."""
    return Perceptron(self.hidden_sizes, self.size)

  @abc.abstractmethod
  def init(self, key: Array) -> PyTree:
    """Initial parameters; those of the decoder under "decoder"."""


@dataclasses.dataclass(frozen=True)
class _Output:
  """A function equal to that of an equal generator, so that programs are shared."""

  generator: Generator

  def __call__(self, parameters: PyTree, variance: Array, noise: Array) -> Gaussian:
    mean = self.generator.decode(parameters, noise)
    return Gaussian(mean, jnp.broadcast_to(variance, mean.shape))
