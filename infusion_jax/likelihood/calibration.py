"""Variances of a trained model, changed without training.

They are fitted once more in closed form, or the last of them get another floor.

Given the states of infusion chains q, the best variance of a Gaussian N(mu, v) is the
mean squared residual, E_q[(z - mu)^2] (the idea of Bao et al., Analytic-DPM, 2022). A
network's variance sigma^2 depends on the state before, so each step and pixel gets one
factor: E_q[(z^(t) - mu)^2 / sigma^2], with x in place of z^(T). The network, its means
and the floor of its variances stay as they are; a factor may lead below that floor.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from infusion_jax import chain
from infusion_jax.chain import MarkovChain, Transition, Visit
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance

Array = jax.Array
PyTree = Any

_BATCH = 250
#: Limits the factors: a pixel that is 0 in these images may have ink in others.
_SMALLEST, _LARGEST = 0.1, 10.0


class ScaledSteps(NamedTuple):
  """Steps with what their variances are multiplied by, and what is added then.

  Attributes:
    steps: the transition's own rows, leaves [T, ...].
    factors: [T, H, W, C], or [T].
    added: [T].
  """

  steps: PyTree
  factors: Array
  added: Array


def scale_variances(markov: MarkovChain, factors: Array) -> MarkovChain:
  """The same model with its variances multiplied, step by step and pixel by pixel.

  Args:
    markov: the chain.
    factors: [T, H, W, C], positive, of p^(1) ... p^(T).
  """
  return _changed(markov, jnp.asarray(factors), jnp.zeros(markov.num_steps))


def with_output_floor(markov: MarkovChain, trained: float, floor: float) -> MarkovChain:
  """The same model with another floor of the last transition's variance.

  A Gaussian's floor limits what a pixel can give, 3.69 nats at 1e-4, and what it can
  cost: a pixel that is far from its mean costs (x - mean)^2 / (2 floor).

  Args:
    markov: the chain.
    trained: the floor it was trained with, `chain.variance_floor`.
    floor: the floor to be, positive.
  """
  last = jnp.zeros(markov.num_steps).at[-1].set(floor - trained)
  return _changed(markov, jnp.ones(markov.num_steps), last)


def _changed(markov: MarkovChain, factors: Array, added: Array) -> MarkovChain:
  return dataclasses.replace(
    markov,
    transition=Partial(_scaled, markov.transition),
    steps=ScaledSteps(markov.steps, factors, added),
  )


def fit_variances(
  key: Array, markov: MarkovChain, images: np.ndarray, *, levels: int | None = None
) -> Array:
  """The factors [T, H, W, C] that some images ask for, between 0.1 and 10.

  Args:
    key: one key.
    markov: the chain; its own q runs towards the images.
    images: training images [N, H, W, C], integers or reals.
    levels: grey levels of integer images.
  """
  total = 0.0
  for first in range(0, len(images), _BATCH):
    part = jnp.asarray(images[first : first + _BATCH])
    keys = importance.image_keys(key, np.arange(first, first + len(part)))
    total = total + _squares(keys, markov, part, levels)
  return jnp.clip(total / len(images), _SMALLEST, _LARGEST)


@functools.partial(jax.jit, static_argnames="levels")
def _squares(
  keys: Array, markov: MarkovChain, images: Array, levels: int | None
) -> Array:
  """Sums over images of (z - mu)^2 / sigma^2, [T, H, W, C]."""
  x = importance.targets(keys, images, levels)

  def squares(p: Gaussian, z: Array) -> Array:
    return (jnp.square(z - p.mean) / p.variance).sum(0)

  def record(visit: Visit) -> Array:
    return squares(visit.before, visit.state)

  prediction, _, trace = chain.infuse(keys, markov, x, record=record)
  # The first row belongs to the prior, which was fitted to the images already.
  return jnp.concatenate([trace[1:], squares(prediction, x)[None]])


def _scaled(
  transition: Transition, step: ScaledSteps, z: Array, **label: Array
) -> tuple[Gaussian, PyTree]:
  p, report = transition(step.steps, z, **label)
  return p._replace(variance=step.factors * p.variance + step.added), report
