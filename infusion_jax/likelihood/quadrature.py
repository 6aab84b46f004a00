"""The exact density of chains over two numbers, by numerical integration.

The distribution of the state is followed from step to step on a lattice of nodes:

    p(z^(t)) = sum over nodes n of mass_n p^(t)(z^(t) | node_n)

Components are independent given the node, so that a step of G x G nodes is one product
of matrices [G, G^2] and [G^2, G]. Sums over a lattice are exact to many digits where
the narrowest transition is as wide as the spacing.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import chain, gaussian, sampling
from infusion_jax.chain import MarkovChain, PyTree
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian

Array = jax.Array

_CHUNK = 4096


class Lattice(NamedTuple):
  """Nodes of a square: `size` along each axis, in the middles of equal cells.

  Attributes:
    low: the square's lower end along both axes.
    high: its upper end.
    size: G.
  """

  low: float = -0.75
  high: float = 1.75
  size: int = 320

  @property
  def spacing(self) -> float:
    """Distance of neighbouring nodes."""
    return (self.high - self.low) / self.size

  @property
  def axis(self) -> Array:
    """The nodes along one axis, [G]."""
    return self.low + self.spacing * (jnp.arange(self.size) + 0.5)

  def nodes(self, image_shape: tuple[int, int, int]) -> Array:
    """All nodes as images of two numbers, [G^2, H, W, C]; the second varies fastest."""
    first, second = jnp.meshgrid(self.axis, self.axis, indexing="ij")
    return jnp.stack([first.ravel(), second.ravel()], -1).reshape(-1, *image_shape)


class Masses(NamedTuple):
  """The distribution of z^(T-1) on a lattice.

  Attributes:
    weights: probability of each node's cell, [G^2]. Their sum falls short of 1 by what
      lies outside of the square.
    means: of p^(T)(. | node), [G^2, 2].
    variances: of the same, [G^2, 2].
  """

  weights: Array
  means: Array
  variances: Array


def check_two_numbers(image_shape: tuple[int, int, int]) -> None:
  """Raises UserError for images that are not two numbers."""
  if math.prod(image_shape) != 2:
    raise UserError(
      f"images have shape {image_shape}; numerical integration takes images of two"
      " numbers, such as [1, 2, 1]"
    )


@functools.partial(jax.jit, static_argnames="lattice")
def follow(markov: MarkovChain, lattice: Lattice) -> Masses:
  """Carries the prior through the chain up to its last transition.

  Args:
    markov: the chain, over images of two numbers.
    lattice: where to integrate.

  Returns:
    The masses before the last transition, with the transition at every node.
  """
  nodes = lattice.nodes(markov.prior.mean.shape)
  start = chain.repeat_for_batch(markov.prior, len(nodes))
  cell = lattice.spacing**2
  weights = cell * jnp.exp(gaussian.per_image(gaussian.log_density(nodes, start)))

  def answer(step: PyTree) -> tuple[Array, Array]:
    p, _ = markov.transition(step, nodes)
    mean, variance = jnp.broadcast_arrays(p.mean, p.variance)
    return mean.reshape(-1, 2), variance.reshape(-1, 2)

  def body(weights: Array, step: PyTree) -> tuple[Array, None]:
    return cell * _spread(weights, *answer(step), lattice.axis).ravel(), None

  first, last = (
    jax.tree.map(lambda leaf, part=part: leaf[part], markov.steps)
    for part in (slice(None, -1), -1)
  )
  weights, _ = jax.lax.scan(body, weights, first)
  return Masses(weights, *answer(last))


def whole(markov: MarkovChain, lattice: Lattice | None = None) -> Masses:
  """`follow` over a lattice that holds the chain's mass.

  Raises:
    UserError: a hundredth of the mass or more lies outside of the lattice, or states
      are no plain Gaussians.
  """
  if type(markov.prior) is not Gaussian:
    raise UserError(
      f"states are {type(markov.prior).__name__}; numerical integration takes plain"
      " Gaussian ones (no model.self_conditioning, model.latents = 1)"
    )
  masses = follow(markov, lattice or Lattice())
  inside = float(masses.weights.sum())
  if not abs(inside - 1.0) < 0.01:
    raise UserError(
      f"the lattice holds {inside:.3f} of the chain's mass; it must hold 1 within 0.01"
    )
  return masses


@jax.jit
def density(masses: Masses, axis: Array) -> Array:
  """p(x) where x runs over the square of an axis [A]: [A, A], first number first."""
  return _spread(masses.weights, masses.means, masses.variances, axis)


@jax.jit
def log_likelihood(masses: Masses, x: Array) -> Array:
  """log p(x) of images of two numbers, [N, H, W, C] to [N] nats."""
  log_weights = jnp.log(jnp.maximum(masses.weights, jnp.finfo(jnp.float32).tiny))
  kernel = Gaussian(masses.means, masses.variances)

  def one(point: Array) -> Array:
    found = log_weights + gaussian.log_density(point, kernel).sum(-1)
    return jax.nn.logsumexp(found)

  return jax.lax.map(one, x.reshape(-1, 2))


def exact(
  markov: MarkovChain,
  x: np.ndarray,
  lattice: Lattice | None = None,
  labels: np.ndarray | None = None,
) -> np.ndarray:
  """log p(x) of images of two numbers, [N] nats.

  Args:
    markov: the chain.
    x: [N, H, W, C].
    lattice: where to integrate.
    labels: [N], for log p(x | label); None: the chain as it is.

  Raises:
    UserError: images are not two numbers, or see `whole`.
  """
  check_two_numbers(x.shape[1:])
  if labels is None:
    return np.asarray(log_likelihood(whole(markov, lattice), jnp.asarray(x)))
  found = np.zeros(len(x), np.float32)
  for label in np.unique(labels):
    masses = whole(sampling.given(markov, label), lattice)
    found[labels == label] = log_likelihood(masses, jnp.asarray(x[labels == label]))
  return found


def _spread(weights: Array, means: Array, variances: Array, axis: Array) -> Array:
  """Sum over nodes of weight N(a; first) N(b; second) for all a, b on an axis."""
  size = len(weights)
  pad = -size % _CHUNK

  def chunks(leaf: Array) -> Array:
    # Pads with copies of the last row, whose variance is valid and weight is 0.
    filled = jnp.pad(leaf, [(0, pad)] + [(0, 0)] * (leaf.ndim - 1), mode="edge")
    return filled.reshape(-1, _CHUNK, *leaf.shape[1:])

  valid = chunks(jnp.ones(size)).at[-1, _CHUNK - pad :].set(0.0)

  def body(total: Array, rows: tuple[Array, Array, Array]) -> tuple[Array, None]:
    weights, means, variances = rows
    kernel = Gaussian(means[..., None], variances[..., None])
    first, second = jnp.moveaxis(jnp.exp(gaussian.log_density(axis, kernel)), 1, 0)
    return total + (weights[:, None] * first).T @ second, None

  rows = chunks(weights) * valid, chunks(means), chunks(variances)
  zero = jnp.zeros((len(axis), len(axis)), weights.dtype)
  return jax.lax.scan(body, zero, rows)[0]
