"""Pictures from a trained operator: samples, their chains, completions.

Every function takes [B] keys, one per image: image i is a function of key i
alone. All are pure and run with fixed batch statistics.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from infusion_jax import chain, random
from infusion_jax.chain import Infusion, MarkovChain, Parameters
from infusion_jax.gaussian import Distribution
from infusion_jax.networks import Network

Array = jax.Array
PyTree = Any


class Weights(NamedTuple):
  """All that sampling needs to know of a trained model.

  Attributes:
    parameters: of the operator.
    statistics: batch statistics, leaves [T, ...].
    infusion: prior, rates of training and target variance.
  """

  parameters: Parameters
  statistics: PyTree
  infusion: Infusion


class Chains(NamedTuple):
  """Chains as a person looks at them.

  Attributes:
    states: z^(0) ... z^(T-1), [T, B, H, W, C].
    means: of p^(1) ... p^(T), [T, B, H, W, C]; the last is the picture.
    variances: of the same, [T, B, H, W, C].
    mask: where the target came in, [T, B, H, W, 1]; None for model chains.
  """

  states: Array
  means: Array
  variances: Array
  mask: Array | None


def markov_chain(
  network: Network,
  weights: Weights,
  num_steps: int | None = None,
  guidance: float | None = None,
) -> MarkovChain:
  """The chain of a trained model, with fixed statistics.

  Args:
    network: the operator's network.
    weights: the trained model.
    num_steps: length of the chain; as trained if None. Further steps repeat the last
      one, its statistics and rate included.
    guidance: of a network with classes, see `Distribution.toward`; None: the
      label, which `given` adds, counts once.
  """
  parameters, statistics, infusion = weights
  num_steps = num_steps or network.num_steps
  operator, told = network.fixed, {}
  if guidance is not None:
    operator, told = network.guided, {"guidance": jnp.asarray(guidance, jnp.float32)}
  return MarkovChain(
    Partial(operator, parameters.shared, **told),
    chain.extended(network.steps(parameters.per_step, statistics), num_steps),
    infusion._replace(rates=chain.extended(infusion.rates, num_steps)),
  )


def given(
  markov: MarkovChain, label: Array | int | None = None, seen: Array | None = None
) -> MarkovChain:
  """The chain of a network with conditions given some of them.

  Args:
    markov: of `markov_chain`.
    label: [N], one for each image, of which the states hold one chain or several in a
      row, or a scalar; None: as it is.
    seen: of the images, [N, H, W, C + 1] (`restoration.conditions`); None: as it is.
  """
  more = {} if label is None else {"label": jnp.asarray(label, jnp.int32)}
  more |= {} if seen is None else {"seen": jnp.asarray(seen)}
  if not more:
    return markov
  bound = markov.transition
  told = {**bound.keywords, **more}
  return dataclasses.replace(
    markov, transition=Partial(bound.func, *bound.args, **told)
  )


def predict(markov: MarkovChain, keys: Array) -> Distribution:
  """The last transition p^(T)(. | z^(T-1)) of model chains, [B, H, W, C].

  Its mean is what the thesis shows; `draw` gives samples proper.
  """
  return chain.generate(keys, markov, keys.shape[0]).prediction


def means(
  markov: MarkovChain, keys: Array, batch_size: int = 500, *, draws: bool = False
) -> Iterator[np.ndarray]:
  """Pictures of many model chains, batch after batch, as arrays of the host.

  Args:
    markov: the trained model's chain.
    keys: [N].
    batch_size: chains per compiled call; picture i does not depend on it.
    draws: draw from p^(T) instead of taking its mean.

  Yields:
    [b, H, W, C] means of p^(T), b = batch_size but for the last batch.
  """
  count = len(keys)
  for first in range(0, count, batch_size):
    # Filled up with the last chain, so that one compiled program serves all.
    rows = np.minimum(np.arange(first, first + batch_size), count - 1)
    prediction = _predict(markov, keys[rows])
    pictures = draw(keys[rows], prediction) if draws else prediction.mean
    yield np.asarray(pictures)[: count - first]


_predict = jax.jit(predict)


def draw(keys: Array, prediction: Distribution) -> Array:
  """Samples z^(T) ~ p^(T), [B, H, W, C], from a prediction."""
  return prediction.draw(random.named(keys, "last"))


def chains(markov: MarkovChain, keys: Array) -> Chains:
  """Model chains, state by state (figure 3.1)."""
  return _shown(chain.generate(keys, markov, keys.shape[0], record=_look))


def infusion_chains(markov: MarkovChain, keys: Array, x: Array) -> Chains:
  """Infusion chains towards the targets x [B, H, W, C] (figure 3.2)."""
  return chain.infuse(keys, markov, x, record=_look).trace


def inpaint(markov: MarkovChain, keys: Array, images: Array, known: Array) -> Array:
  """Completes images whose known pixels are clamped at every step (section 3.5.3).

  Args:
    markov: the trained model's chain.
    keys: [B].
    images: [B, H, W, C] in [0, 1]; unknown pixels are ignored.
    known: [B, H, W, 1] or broadcastable, True where a pixel is known.

  Returns:
    [B, H, W, C]: known pixels bit-identical to the input, the others the mean of
    the last transition.
  """
  prediction = chain.clamp(keys, markov, images, known).prediction
  return jnp.where(known, images, prediction.mean)


def clamped_chains(
  markov: MarkovChain, keys: Array, images: Array, known: Array
) -> Chains:
  """The chains of `inpaint`, state by state; their means are not clamped."""
  found = _shown(chain.clamp(keys, markov, images, known, record=_look))
  return found._replace(mask=None)


def _shown(found: chain.Result) -> Chains:
  """Model chains that end with the picture, whatever latent it is made with."""
  trace, last = found.trace, found.prediction
  return trace._replace(
    means=trace.means.at[-1].set(last.mean),
    variances=trace.variances.at[-1].set(last.variance),
  )


def _look(visit: chain.Visit) -> Chains:
  return Chains(visit.state, visit.after.mean, visit.after.variance, visit.mask)
