"""A normalizing flow of affine couplings, by flowjax: an exact density, and its draws.

Dinh et al. (2017), "Density estimation using Real NVP": of every coupling half of the
numbers is scaled and shifted by what a network makes of the other half. The flow is
over the logits of the pixels (their section 4.1).
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from infusion_jax import gaussian, random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers.peer import LogLikelihood, Peer, Sampler, Trained, flat

if TYPE_CHECKING:
  from flowjax.distributions import Transformed

Array = jax.Array
PyTree = Any

#: Couplings; each has a network with layers of half the configured size.
_COUPLINGS = 8
#: Pixels x become logits of a + (1 - 2 a) x, which are finite from 0 to 1.
_MARGIN = 0.05


@dataclasses.dataclass(frozen=True)
class NormalizingFlow(Peer):
  """Standard normal noise -> eight couplings, each then shuffled -> logits of pixels.

  A network of half as many units has a quarter of the weights, so the eight together
  cost as much as two of the configured size. A picture takes eight network calls, one a
  coupling, however many are allowed.
  """

  title = "normalizing flow"
  passes = 2
  needs = "flowjax"

  def __post_init__(self) -> None:
    """Builds the flow outside all compiled programs: flowjax looks at its values."""
    _frame(self.size, self.hidden_sizes)

  def init(self, key: Array) -> PyTree:
    """Weights and biases of the networks, those of all couplings in one array."""
    weights, _ = _parts(self.size, self.hidden_sizes, key)
    return {f"{n}": leaf for n, leaf in enumerate(jax.tree.leaves(weights))}

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """- log p(x), per pixel."""
    del key, prior
    return -self.log_density(parameters, x).mean() / self.size

  def calls(self, num_calls: int) -> int:
    """One a coupling."""
    return _COUPLINGS

  @property
  def samplers(self) -> Mapping[str, Sampler]:
    """Draws."""
    return {"draws": self._sample}

  def _sample(self, trained: Trained, keys: Array, num_calls: Array) -> Array:
    del num_calls
    noise = random.normal(keys, (len(keys), self.size))
    return jnp.clip(self.decode(trained.parameters, noise), 0.0, 1.0)

  def decode(self, parameters: PyTree, noise: Array) -> Array:
    """Pixels [B, H, W, C] of noise [B, d]; some lie up to 1/18 beyond 0 or 1."""
    logits = jax.vmap(self._bound(parameters).bijection.transform)(noise)
    x = (jax.nn.sigmoid(logits) - _MARGIN) / (1 - 2 * _MARGIN)
    return x.reshape(-1, *self.image_shape)

  @property
  def likelihoods(self) -> Mapping[str, LogLikelihood]:
    """The density of the flow itself."""
    return {"exact": lambda _, trained, x: self.log_density(trained.parameters, x)}

  def log_density(self, parameters: PyTree, x: Array) -> Array:
    """log p(x) by the change of variables, [B] nats, of pixels [B, H, W, C]."""
    share = _MARGIN + (1 - 2 * _MARGIN) * x
    slope = math.log(1 - 2 * _MARGIN) - jnp.log(share) - jnp.log1p(-share)
    logits = jnp.log(share) - jnp.log1p(-share)
    log_p = self._bound(parameters).log_prob(flat(logits))
    return log_p + gaussian.per_image(slope)

  def _bound(self, parameters: PyTree) -> "Transformed":
    """The flow with its weights, over one row of logits [d]."""
    import equinox

    tree, rest = _frame(self.size, self.hidden_sizes)
    leaves = [parameters[f"{n}"] for n in range(tree.num_leaves)]
    return equinox.combine(jax.tree.unflatten(tree, leaves), rest)


@functools.cache
def _frame(size: int, hidden_sizes: tuple[int, ...]) -> tuple[Any, PyTree]:
  """The tree of the weights, and all of a flow besides: its permutations are fixed."""
  weights, rest = _parts(size, hidden_sizes, jax.random.key(0))
  return jax.tree.structure(weights), rest


def _parts(
  size: int, hidden_sizes: tuple[int, ...], key: Array
) -> tuple[PyTree, PyTree]:
  """A flow's initial weights, and what is not learned."""
  import equinox
  from flowjax import distributions, flows

  flow = flows.coupling_flow(
    key,
    base_dist=distributions.StandardNormal((size,)),
    flow_layers=_COUPLINGS,
    nn_width=max(1, max(hidden_sizes) // 2),
    nn_depth=len(hidden_sizes),
  )
  return equinox.partition(flow, equinox.is_inexact_array)
