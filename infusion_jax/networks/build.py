"""A network from its configuration."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.errors import UserError
from infusion_jax.networks.mlp import MLP
from infusion_jax.networks.network import Network

ImageShape = tuple[int, int, int]


def _mlp(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> nn.Module:
  del image_shape
  return MLP(
    hidden_sizes=model.hidden_sizes,
    variance_scale=chain.variance_scale,
    variance_floor=chain.variance_floor,
    dtype=jnp.dtype(model.dtype),
  )


#: Networks by `model.name`. To add one, write its module and its line here.
BUILDERS: dict[str, Callable[[ModelConfig, ChainConfig, ImageShape], nn.Module]] = {
  "mlp": _mlp,
}


def build(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> Network:
  """The network `model` describes, for images of `image_shape`.

  Raises:
    UserError: no network of that name, or one that does not fit the images.
  """
  if model.name not in BUILDERS:
    raise UserError(
      f"model.name is {model.name!r}; allowed are {', '.join(sorted(BUILDERS))}"
    )
  module = BUILDERS[model.name](model, chain, image_shape)
  return Network(module, tuple(image_shape), chain.num_steps)
