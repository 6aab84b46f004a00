"""Variational walkback: a transition heated up from the image, and cooled down again.

Goyal et al. (2017), "Variational walkback: learning a transition operator as a
stochastic recurrent net".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random
from infusion_jax.chain import repeat_for_batch
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import perceptron
from infusion_jax.peers.peer import LogLikelihood, Peer, Sampler, Trained, flat
from infusion_jax.peers.perceptron import Heads, Perceptron

Array = jax.Array
PyTree = Any

#: Share of the state that a transition keeps.
_KEPT = 0.5
#: The last states of validation images have at least this variance.
_FLOOR = 1e-4


@dataclasses.dataclass(frozen=True)
class VariationalWalkback(Peer):
  """T(s' | s) has mean a s + (1 - a) F(s) and variance temperature * V(s).

  Attributes:
    num_steps: K, of the walk away from an image.
    growth: of the temperature from step to step; it begins at 1.
  """

  num_steps: int = 15
  growth: float = 1.3

  title = "variational walkback"
  passes = 15

  def init(self, key: Array) -> PyTree:
    """Initial parameters of F and V."""
    return perceptron.init(self._network, key, self.size)

  def transition(self, parameters: PyTree, s: Array, temperature: Array) -> Gaussian:
    """T(. | s) at a temperature, over [B, H, W, C]; one network call."""
    raw = perceptron.call(self._network, parameters, flat(s) - 0.5)
    p = Heads(self.image_shape)(raw)
    return Gaussian(_KEPT * s + (1 - _KEPT) * p.mean, temperature * p.variance)

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """- log T(s_t | s_(t+1)) of walks from x at rising temperatures, per pixel.

    As in the paper's algorithm 1 the walk is held constant; a step's transition serves
    as q of the next one and as p of the last one, so it is computed once.
    """
    del prior
    q = self.transition(jax.lax.stop_gradient(parameters), x, 1.0)

    def step(carry: tuple[Array, Gaussian], t: Array) -> tuple[Any, Array]:
      s, q = carry
      temperature = self.growth**t
      heated = Gaussian(q.mean, temperature * q.variance)
      after = gaussian.sample(random.fold_in(key, t), jax.lax.stop_gradient(heated))
      p = self.transition(parameters, after, 1.0)
      back = Gaussian(p.mean, temperature * p.variance)
      return (after, p), -gaussian.log_density(s, back).mean()

    _, losses = jax.lax.scan(step, (x, q), jnp.arange(self.num_steps))
    return losses.mean()

  def calibrate(self, key: Array, trained: Trained, x: Array) -> Gaussian:
    """The Gaussian p* of the last states of validation images, [H, W, C]."""
    last = self._walk(key, trained.parameters, x)[0]
    return Gaussian(last.mean(0), last.var(0) + _FLOOR)

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """From p* at falling temperatures; the picture is the last mean."""
    return {"cooling": self._cool}

  def _cool(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    def step(n: Array, p: Gaussian) -> Gaussian:
      s = gaussian.sample(random.fold_in(keys, n), p)
      left = 1.0 - (n + 1.0) / num_calls
      temperature = self.growth ** (left * self.num_steps)
      return self.transition(trained.parameters, s, temperature)

    start = trained.prior if trained.calibration is None else trained.calibration
    last = jax.lax.fori_loop(0, num_calls, step, repeat_for_batch(start, len(keys)))
    return jnp.clip(last.mean, 0.0, 1.0)

  @property
  def likelihoods(self) -> Mapping[str, LogLikelihood]:
    """The variational bound (eq. 4)."""
    return {"bound": self.bound}

  def bound(self, key: Array, trained: Trained, x: Array) -> Array:
    """log p*(s_K) + sum_t log T(s_t | s_(t+1)) - log T(s_(t+1) | s_t), [B] nats."""
    last, ratio = self._walk(key, trained.parameters, x)
    end = gaussian.log_density(last, trained.calibration)
    return gaussian.per_image(end) + ratio

  def _walk(self, key: Array, parameters: PyTree, x: Array) -> tuple[Array, Array]:
    """The last state of a walk from each image, and the sum of the log-ratios [B]."""

    def step(carry: tuple[Array, Array], t: Array) -> tuple[Any, None]:
      s, total = carry
      q = self.transition(parameters, s, self.growth**t)
      after = gaussian.sample(random.fold_in(key, t), q)
      p = self.transition(parameters, after, self.growth**t)
      ratio = gaussian.log_density(s, p) - gaussian.log_density(after, q)
      return (after, total + gaussian.per_image(ratio)), None

    start = x, jnp.zeros(len(x))
    return jax.lax.scan(step, start, jnp.arange(self.num_steps))[0]

  @property
  def _network(self) -> Perceptron:
    return Perceptron(self.hidden_sizes, 2 * self.size)
