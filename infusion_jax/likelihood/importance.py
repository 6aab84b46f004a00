"""Lower bound and importance sampling from infusion chains (section 3.3.4).

One chain drawn from the proposal q gives one log-weight l; over k of them

    lower bound          mean of l_1 ... l_k
    importance sampling  logsumexp(l_1 ... l_k) - log k

Both are running sums over chunks of chains, so memory does not grow with k.
Chain j of image i in repetition r draws from a stream of its own, so neither
the chunk nor the batch of images changes a result.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import objectives, pixels, random, sampling
from infusion_jax.chain import MarkovChain
from infusion_jax.errors import UserError
from infusion_jax.objectives import Terms

Array = jax.Array
PyTree = Any


class Estimates(NamedTuple):
  """Estimates of log p(x) for N images (or [R, N] for R repetitions).

  Attributes:
    bound: [N] nats, the mean log-weight; its expectation is at most log p(x).
    importance: [N] nats, the log of the mean weight; its expectation lies
      between the bound's and log p(x).
    ess: [N] in [1, k], effective sample size (sum w)^2 / sum w^2. Where it is
      near 1 a single chain makes the estimate, which may then be far too low.
    terms: decomposition of `bound`: prior [N], per_step [T-1, N] and
      reconstruction [N] add up to it.
  """

  bound: Array
  importance: Array
  ess: Array
  terms: Terms


class LogMean(NamedTuple):
  """Running log-sums of weights exp(l), any shape.

  Attributes:
    top: largest l so far.
    total: sum of exp(l - top).
    squares: sum of exp(2 (l - top)).
  """

  top: Array
  total: Array
  squares: Array

  @classmethod
  def empty(cls, shape: tuple[int, ...]) -> "LogMean":
    """Nothing seen yet."""
    return cls(jnp.full(shape, -jnp.inf), jnp.zeros(shape), jnp.zeros(shape))

  def include(self, values: Array) -> "LogMean":
    """Takes in more l, [..., C]; -inf weighs nothing."""
    top = jnp.maximum(self.top, values.max(-1))
    origin = jnp.where(jnp.isfinite(top), top, 0.0)
    old = jnp.exp(self.top - origin)
    new = jnp.exp(values - origin[..., None])
    return LogMean(
      top,
      old * self.total + new.sum(-1),
      jnp.square(old) * self.squares + jnp.square(new).sum(-1),
    )

  def log_mean(self, count: int) -> Array:
    """log of the mean weight of `count` of them."""
    return self.top + jnp.log(self.total) - jnp.log(float(count))

  def ess(self) -> Array:
    """Effective sample size, (sum w)^2 / sum w^2."""
    return jnp.square(self.total) / self.squares


def image_keys(key: Array, images: Array | np.ndarray, repetition: int = 0) -> Array:
  """The stream of each image in one repetition: [N] keys.

  Args:
    key: the estimate's key.
    images: [N] integers, the images' own numbers in their data set.
    repetition: number of the repetition.
  """
  repeated = jax.random.fold_in(key, repetition)
  numbers = jnp.asarray(images)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(repeated, numbers)


def targets(keys: Array, images: Array, levels: int | None) -> Array:
  """Images as real numbers: integers are dequantized afresh, reals kept.

  Args:
    keys: [N], one per image.
    images: [N, H, W, C], integers or reals.
    levels: grey levels of integer images.

  Raises:
    UserError: integer images without `levels`.
  """
  if not jnp.issubdtype(images.dtype, jnp.integer):
    return images.astype(jnp.float32)
  if levels is None:
    raise UserError(
      f"levels is None for images of type {images.dtype};"
      " integer images need their number of grey levels"
    )
  return pixels.dequantized(random.named(keys, "dequantize"), images, levels)


def chain_keys(keys: Array, chains: Array) -> Array:
  """A stream per image and chain: [N] keys, [C] numbers -> [N, C] keys."""
  named = random.named(keys, "chain")
  fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  return jax.vmap(fold, in_axes=(0, None))(named, chains)


def log_weights(
  keys: Array,
  markov: MarkovChain,
  x: Array,
  chains: Array,
  labels: Array | None = None,
) -> Terms:
  """Log-weights l of some chains of each image, term by term (eq. 3.3.3).

  Args:
    keys: [N], one per image.
    markov: the chain.
    x: [N, H, W, C].
    chains: [C] integers; the number j of a chain, not its place, is its stream.
    labels: [N], of the images; None: the chain as it is.

  Returns:
    Terms with [N, C] in the place of [B]; their `bound` is l.
  """
  shape = x.shape[0], chains.shape[0]
  rows, markov = jnp.repeat(x, shape[1], axis=0), sampling.given(markov, labels)
  terms, _ = objectives.bound(chain_keys(keys, chains).reshape(-1), markov, rows)
  return jax.tree.map(lambda v: v.reshape(*v.shape[:-1], *shape), terms)


def over_chunks(
  include: Callable[[PyTree, Array, Array], PyTree],
  initial: PyTree,
  num_chains: int,
  chunk_size: int,
) -> PyTree:
  """Runs `state = include(state, chains [C], valid [C])` over all chains."""
  size = min(num_chains, chunk_size)

  def body(chunk: Array, state: PyTree) -> PyTree:
    chains = chunk * size + jnp.arange(size)
    return include(state, chains, chains < num_chains)

  return jax.lax.fori_loop(0, -(-num_chains // size), body, initial)


def estimate(
  keys: Array,
  markov: MarkovChain,
  x: Array,
  labels: Array | None = None,
  *,
  num_chains: int,
  chunk_size: int = 64,
) -> Estimates:
  """Lower bound and importance-sampling estimate of a batch of images.

  Holds N x `chunk_size` chains at a time.

  Args:
    keys: [N], one per image (`image_keys`).
    markov: the chain.
    x: [N, H, W, C].
    labels: [N], for estimates of log p(x | label); None: the chain as it is.
    num_chains: k.
    chunk_size: chains per image held at a time.

  Returns:
    The estimates, [N] each.
  """
  check_counts(num_chains=num_chains, chunk_size=chunk_size)

  def include(state: PyTree, chains: Array, valid: Array) -> PyTree:
    means, sums = state
    terms = log_weights(keys, markov, x, chains, labels)
    means = jax.tree.map(
      lambda mean, v: mean + jnp.where(valid, v, 0.0).sum(-1) / num_chains,
      means,
      terms,
    )
    return means, sums.include(jnp.where(valid, terms.bound, -jnp.inf))

  size, length = x.shape[0], markov.num_steps
  zero = Terms(jnp.zeros(size), jnp.zeros((length - 1, size)), jnp.zeros(size))
  means, sums = over_chunks(
    include, (zero, LogMean.empty((size,))), num_chains, chunk_size
  )
  return Estimates(means.bound, sums.log_mean(num_chains), sums.ess(), means)


def estimate_batches(
  key: Array,
  markov: MarkovChain,
  images: np.ndarray,
  *,
  levels: int | None = None,
  labels: np.ndarray | None = None,
  num_chains: int,
  repetitions: int = 1,
  batch_size: int = 16,
  chunk_size: int = 64,
  skip: Callable[[int, int], bool] = lambda repetition, first: False,
) -> Iterator[tuple[int, int, Estimates]]:
  """Estimates a data set batch by batch: something to show and keep each time.

  Args:
    key: the estimate's key.
    markov: the chain.
    images: [N, H, W, C], integers (dequantized afresh per image and repetition)
      or reals.
    levels: grey levels of integer images.
    labels: [N] integers, see `estimate`.
    num_chains: k.
    repetitions: R, independent in chains and in dequantization.
    batch_size: images per compiled call.
    chunk_size: chains per image held at a time.
    skip: tells by repetition and first image what is done already.

  Yields:
    Repetition, number of the batch's first image, and its estimates, [n] numpy.
  """
  check_counts(num_chains=num_chains, chunk_size=chunk_size, repetitions=repetitions)
  for repetition, first, rows, keys, x in batches(
    key, images, levels, repetitions, batch_size
  ):
    if skip(repetition, first):
      continue
    told = labels_of_batch(labels, first, len(keys))
    result = _estimate(
      keys, markov, x(), told, num_chains=num_chains, chunk_size=chunk_size
    )
    yield repetition, first, first_rows(result, rows)


def evaluate(
  key: Array,
  markov: MarkovChain,
  images: np.ndarray,
  *,
  progress: Callable[[int, int], None] | None = None,
  **options: Any,
) -> Estimates:
  """Estimates a whole data set.

  Args:
    key: the estimate's key.
    markov: the chain.
    images: [N, H, W, C].
    progress: called with images done and images in all, repetitions counted.
    **options: of `estimate_batches`.

  Returns:
    Estimates, numpy [R, N]; per_step is [R, T-1, N].
  """
  repetitions = options.get("repetitions", 1)
  found: list[list[Estimates]] = [[] for _ in range(repetitions)]
  done = 0
  for repetition, _, result in estimate_batches(key, markov, images, **options):
    found[repetition].append(result)
    done += len(result.bound)
    if progress:
      progress(done, repetitions * len(images))
  joined = [
    jax.tree.map(lambda *v: np.concatenate(v, axis=-1), *rows) for rows in found
  ]
  return jax.tree.map(lambda *v: np.stack(v), *joined)


def batches(
  key: Array,
  images: np.ndarray,
  levels: int | None,
  repetitions: int,
  batch_size: int,
) -> Iterator[tuple[int, int, int, Array, Callable[[], Array]]]:
  """Batches of one shape: repetition, first image, images in it, keys, targets.

  The last batch is filled up with its own last image, so that one program
  serves all. The targets come as a function, as a batch may be skipped.
  """
  check_counts(batch_size=batch_size, num_images=len(images))
  size = min(batch_size, len(images))
  for repetition in range(repetitions):
    for first in range(0, len(images), size):
      numbers = np.minimum(np.arange(first, first + size), len(images) - 1)
      keys = image_keys(key, numbers, repetition)
      x = functools.partial(
        lambda k, n: targets(k, jnp.asarray(images[n]), levels), keys, numbers
      )
      yield repetition, first, min(size, len(images) - first), keys, x


def labels_of_batch(labels: np.ndarray | None, first: int, size: int) -> Array | None:
  """Those of a batch of `batches`, filled up as its images are; None if there are none.

  Args:
    labels: [N], of all images.
    first: the batch's first image.
    size: images of the batch, with those that fill it up.
  """
  if labels is None:
    return None
  return jnp.asarray(
    labels[np.minimum(np.arange(first, first + size), len(labels) - 1)]
  )


def first_rows(tree: PyTree, count: int) -> PyTree:
  """The first `count` of the last axis of every leaf, as numpy."""
  return jax.tree.map(lambda leaf: np.asarray(leaf)[..., :count], tree)


def check_counts(**counts: int) -> None:
  """Raises UserError unless every named count is a whole number >= 1."""
  for name, value in counts.items():
    if int(value) != value or value < 1:
      raise UserError(f"{name} is {value}; it must be a whole number >= 1")


_estimate = jax.jit(estimate, static_argnames=("num_chains", "chunk_size"))
