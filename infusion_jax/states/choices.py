"""The gradient of what no gradient flows through: choices made in an infusion chain.

The mixture takes a pixel from the image or from p. That choice is no smooth function of
its rate, so that the bound's gradient in a rate has two parts: through log q, and by
the score function (REINFORCE; Williams, 1992),

    d E[l] / d rate = E[d l / d rate] + E[(l - baseline) d log q(z) / d rate],   z held.

The score is that of q with its choices summed out, which has less noise than the score
of the choices themselves.
"""

import jax
import jax.numpy as jnp

from infusion_jax import gaussian
from infusion_jax.gaussian import Distribution
from infusion_jax.states.infusion import Infusion

Array = jax.Array


def log_q(
  z: Array, p: Distribution, rate: Array, x: Array, infusion: Infusion
) -> Array:
  """log q(z | x) of a state drawn, a function of the rate alone, [B] nats."""
  z, p = jax.lax.stop_gradient((z, p))
  q = infusion.proposal
  return gaussian.per_image(q.log_density(z, p, x, rate, infusion.target_variance))


def surrogate(ratios: Array, reconstruction: Array, scores: Array) -> Array:
  """Zeros whose gradient is the second part, to be added to the bound, [B].

  A state is credited with the terms from it on, less their mean over the other images
  of the batch, which know nothing of its choice (but for batch statistics: what a
  choice does to other images through these is left out).

  Args:
    ratios: log p(z) - log q(z | x), [T, B] nats.
    reconstruction: log p(x | z^(T-1)), [B].
    scores: `log_q` of the states, [T, B].
  """
  rest = jnp.cumsum(ratios[::-1], axis=0)[::-1] + reconstruction
  others = max(rest.shape[1] - 1, 1)
  baseline = (rest.sum(1, keepdims=True) - rest) / others
  gain = jax.lax.stop_gradient(rest - baseline)
  value = (gain * scores).sum(0)
  return value - jax.lax.stop_gradient(value)
