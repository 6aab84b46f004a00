"""The proposal q: how an image comes into the states of a chain.

A proposal is two functions of the distribution at hand, p, the image x and a rate: a
draw and its log-density. `chain.infusing` and `objectives` ask it and nothing else
does, so that any q whose density is known gives a valid bound. It has no arrays and is
part of a tree's structure: chains of another q are compiled anew.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from infusion_jax.gaussian import Distribution, Draw, Gaussian

Array = jax.Array
PyTree = Any

#: The entry of a step's own parameters that moves its infusion rate.
RATES = "rates"
#: Learned rates start at least so far from 0 and 1, where a logit has no gradient.
_MARGIN = 1e-3


class Proposal(Protocol):
  """What q is made of; see `Infusion` for the arguments.

  Attributes:
    chooses: whether a draw is no smooth function of the rate (see `choices`).
  """

  chooses: bool

  def draw(
    self, key: Array, p: Distribution, x: Array, rate: Array, target_variance: Array
  ) -> Draw:
    """A state [B, H, W, C], and the mask of pixels that came from x, or None."""

  def log_density(
    self, z: Array, p: Distribution, x: Array, rate: Array, target_variance: Array
  ) -> Array:
    """log q(z | x), [B, ...] nats, to be summed."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mixture:
  """(1 - rate) p + rate N(x, target_variance), per pixel (section 3.3.3.1)."""

  chooses = True

  def draw(
    self, key: Array, p: Distribution, x: Array, rate: Array, target_variance: Array
  ) -> Draw:
    """See `Proposal`."""
    return p.mixture_draw(key, x, rate, target_variance)

  def log_density(
    self, z: Array, p: Distribution, x: Array, rate: Array, target_variance: Array
  ) -> Array:
    """See `Proposal`; [B, H, W]."""
    return p.mixture_log_density(z, x, rate, target_variance)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Interpolation:
  """N((1 - rate) mean + rate x, variance) with mean and variance of p.

  The proposal of generative cellular automata (Zhang et al., 2021). All of it is
  reparametrized, the rate included, and its divergence has a closed form,
  KL(q || p) = sum of rate^2 (x - mean)^2 / (2 variance). `target_variance` is not used.
  """

  chooses = False

  def draw(
    self, key: Array, p: Gaussian, x: Array, rate: Array, target_variance: Array
  ) -> Draw:
    """See `Proposal`; every pixel comes from both, so that there is no mask."""
    del target_variance
    return Draw(p.moved(x, rate).draw(key), None)

  def log_density(
    self, z: Array, p: Gaussian, x: Array, rate: Array, target_variance: Array
  ) -> Array:
    """See `Proposal`; [B, H, W, C]."""
    del target_variance
    return p.moved(x, rate).log_density(z)


MIXTURE = Mixture()
#: Proposals by `chain.infusion`.
PROPOSALS: dict[str, Proposal] = {
  "mixture": MIXTURE,
  "interpolation": Interpolation(),
}


class Infusion(NamedTuple):
  """What turns an image into an infusion chain, besides the transition.

  Attributes:
    prior: p^(0) over [H, W, C]; its type is that of all states.
    rates: alpha^(0) ... alpha^(T-1), [T]; or one for every pixel, [T, H, W, 1].
    target_variance: variance of the narrow Gaussian around the image, scalar.
    proposal: q.
  """

  prior: Distribution
  rates: Array
  target_variance: Array | float
  proposal: Proposal = MIXTURE

  def learned(self, per_step: PyTree) -> "Infusion":
    """The same with rates as training has moved them, if it does.

    Args:
      per_step: parameters of the steps. Where they are a mapping with an entry `RATES`,
        [T] or [T, H, W, 1], it is added to the logits of the rates.
    """
    if not _moves(per_step):
      return self
    moved = per_step[RATES]
    start = jax.scipy.special.logit(jnp.clip(self.rates, _MARGIN, 1 - _MARGIN))
    start = start.reshape(-1, *[1] * (moved.ndim - 1))
    return self._replace(rates=jax.nn.sigmoid(start + moved))

  def scored(self, per_step: PyTree) -> bool:
    """Whether learned rates need the score of the proposal's choices."""
    return self.proposal.chooses and _moves(per_step)


def _moves(per_step: PyTree) -> bool:
  return isinstance(per_step, Mapping) and RATES in per_step
