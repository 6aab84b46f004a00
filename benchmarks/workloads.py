"""What is timed: made-up images, the project's own programs, matrix products."""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import likelihood, sampling
from infusion_jax.config import (
  ChainConfig,
  Config,
  ModelConfig,
  TrainConfig,
)
from infusion_jax.datasets import Dataset
from infusion_jax.networks.products import product
from infusion_jax.sampling import Weights
from infusion_jax.training import programs
from infusion_jax.training.state import (
  initial_state,
  make_recipe,
  make_run,
)

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Size:
  """How much work.

  Attributes:
    side: of the images, pixels.
    colors: channels.
    hidden: units of the MLP's hidden layers.
    num_steps: T.
    batch_size: B.
    model: "mlp" or "conv".
    channels: of the conv net's levels.
    dtype: of the products, "float32" or "bfloat16".
  """

  side: int = 28
  colors: int = 1
  hidden: tuple[int, ...] = (1200, 1200)
  num_steps: int = 15
  batch_size: int = 128
  model: str = "mlp"
  channels: tuple[int, ...] = (64, 32, 16)
  dtype: str = "float32"

  @property
  def pixels(self) -> int:
    """Numbers in an image, d."""
    return self.side * self.side * self.colors

  @property
  def layers(self) -> tuple[tuple[int, int], ...]:
    """Shapes of the MLP's matrices."""
    sizes = (self.pixels, *self.hidden, 2 * self.pixels)
    return tuple(itertools.pairwise(sizes))

  @property
  def useful_flops(self) -> int:
    """Of the matrix products of one training step of the MLP.

    Forward and two backward per layer and step of the chain, but for the first
    layer, whose input is held constant.
    """
    first, *rest = (2 * self.batch_size * a * b for a, b in self.layers)
    return self.num_steps * (2 * first + 3 * sum(rest))


class Ours:
  """A run on made-up images, ready to train, sample and measure."""

  def __init__(self, size: Size, count: int = 0) -> None:
    """Builds network, state and data.

    Args:
      size: how much work.
      count: training images; by default ten batches.
    """
    self.size = size
    self.dataset = made_up(size, count or 10 * size.batch_size)
    config = Config(
      model=ModelConfig(
        name=size.model,
        hidden_sizes=size.hidden,
        channels=size.channels,
        dtype=size.dtype,
      ),
      chain=ChainConfig(num_steps=size.num_steps, omega=0.01),
      train=TrainConfig(batch_size=size.batch_size),
    )
    self.recipe, self.run = (
      make_recipe(config, self.dataset),
      make_run(config, self.dataset),
    )
    self.images = jnp.asarray(self.dataset.train)
    self.state = initial_state(self.recipe, self.run.key)

  @property
  def weights(self) -> Weights:
    """The model as it stands."""
    return Weights(self.state.parameters, self.state.statistics, self.run.infusion)

  def train(self, num_steps: int) -> None:
    """Takes optimizer steps from the beginning of an epoch, as training does."""
    start = self.state._replace(step=jnp.zeros((), jnp.int32))
    program = programs.compiled(self.recipe)
    self.state = jax.block_until_ready(
      program.train_steps(start, self.run, self.images, jnp.asarray(num_steps))
    )

  def sample(self, count: int) -> np.ndarray:
    """Draws pictures."""
    keys = jax.random.split(jax.random.key(0), count)
    network = self.recipe.network
    markov = sampling.markov_chain(network, self.weights)
    batches = sampling.means(markov, keys)
    return np.concatenate(list(batches))

  def estimate(self, num_images: int, num_chains: int) -> np.ndarray:
    """Bound and importance-sampling estimate of the first training images."""
    network = self.recipe.network
    markov = sampling.markov_chain(network, self.weights)
    found = likelihood.estimate_batches(
      jax.random.key(0),
      markov,
      self.dataset.train[:num_images],
      levels=256,
      num_chains=num_chains,
    )
    return np.concatenate([estimates.importance for _, _, estimates in found])


def made_up(size: Size, count: int) -> Dataset:
  """Random images: what they show does not matter to the clock."""
  draw = np.random.default_rng(0).integers
  shape = size.side, size.side, size.colors

  def images(count: int) -> np.ndarray:
    return draw(0, 256, (count, *shape), dtype=np.uint8)

  return Dataset("made up", images(count), images(20), images(20), levels=256)


def ceiling(side: int = 2048) -> tuple[Callable[[], object], int]:
  """A product of two large square matrices, and its FLOPs."""
  a = jax.random.normal(jax.random.key(0), (side, side))
  square = jax.jit(jnp.matmul)
  return lambda: jax.block_until_ready(square(a, a)), 2 * side**3


def own_matmuls(size: Size, summed: bool = False) -> Callable[[], object]:
  """The matrix products of a training step of the MLP and nothing else.

  Same shapes, same count, same order; without draws, batch norm, densities and
  optimizer.

  Args:
    size: of the step.
    summed: also add up the gradients over the steps of the chain, as training must.

  Returns:
    The work.
  """
  keys = jax.random.split(jax.random.key(0), len(size.layers))
  matrices = [
    jax.random.normal(key, shape) / np.sqrt(shape[0])
    for key, shape in zip(keys, size.layers, strict=True)
  ]
  z = jax.random.normal(jax.random.key(1), (size.batch_size, size.pixels))
  layer = functools.partial(product, dtype=jnp.dtype(size.dtype))
  run = jax.jit(functools.partial(_products, layer, size.num_steps, summed))
  return lambda: jax.block_until_ready(run(z, matrices))


def _products(
  layer: Callable[[Array, Array], Array],
  num_steps: int,
  summed: bool,
  z: Array,
  matrices: list[Array],
) -> object:
  def body(carry: tuple, _: None) -> tuple[tuple, None]:
    z, totals = carry
    # The state is held constant: no gradient in it.
    h, pull = jax.vjp(functools.partial(layer, z), matrices[0])
    pulls = [pull]
    for matrix in matrices[1:]:
      h, pull = jax.vjp(layer, h, matrix)
      pulls.append(pull)
    gradient, found = [h], []
    for total, pull in zip(reversed(totals), reversed(pulls), strict=True):
      *gradient, of_matrix = pull(*gradient)
      found.append(total + of_matrix if summed else of_matrix)
    return (h[:, : z.shape[1]], found[::-1]), None

  zeros = [jnp.zeros_like(matrix) for matrix in matrices]
  return jax.lax.scan(body, (z, zeros), None, length=num_steps)[0]
