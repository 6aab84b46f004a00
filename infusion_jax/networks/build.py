"""A network from its configuration."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.errors import UserError
from infusion_jax.networks.conv import ConvNet
from infusion_jax.networks.layers import default_lowering
from infusion_jax.networks.mlp import MLP
from infusion_jax.networks.network import Network
from infusion_jax.networks.unet import UNet

ImageShape = tuple[int, int, int]


def _mlp(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> nn.Module:
  del image_shape
  return MLP(
    hidden_sizes=model.hidden_sizes,
    variance_scale=chain.variance_scale,
    variance_floor=chain.variance_floor,
    dtype=jnp.dtype(model.dtype),
  )


def _conv(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> nn.Module:
  _check_divisible(model, image_shape, len(model.channels))
  return ConvNet(
    channels=model.channels,
    kernel_size=model.kernel_size,
    encoder=model.encoder,
    variance_scale=chain.variance_scale,
    variance_floor=chain.variance_floor,
    dtype=jnp.dtype(model.dtype),
    lowering=default_lowering(),
  )


def _unet(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> nn.Module:
  _check_divisible(model, image_shape, len(model.channels) - 1)
  if any(features % model.groups for features in model.channels):
    raise UserError(
      f"model.groups is {model.groups}; it must divide each of model.channels ="
      f" {model.channels}"
    )
  return UNet(
    channels=model.channels,
    blocks=model.blocks,
    groups=model.groups,
    variance_scale=chain.variance_scale,
    variance_floor=chain.variance_floor,
    dtype=jnp.dtype(model.dtype),
    lowering=default_lowering(),
  )


def _check_divisible(
  model: ModelConfig, image_shape: ImageShape, doublings: int
) -> None:
  """Raises UserError where halving the image `doublings` times leaves a rest."""
  height, width, _ = image_shape
  if height % 2**doublings or width % 2**doublings:
    raise UserError(
      f"model.channels is {model.channels}; network {model.name!r} of so many levels"
      f" takes images whose height and width are multiples of {2**doublings}, these"
      f" are {height}x{width}"
    )


#: Networks by `model.name`. To add one, write its module and its line here.
BUILDERS: dict[str, Callable[[ModelConfig, ChainConfig, ImageShape], nn.Module]] = {
  "mlp": _mlp,
  "conv": _conv,
  "unet": _unet,
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
