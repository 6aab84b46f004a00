"""A network from its configuration."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.config import AUTO, BITS, DTYPES, ChainConfig, ModelConfig
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Distribution, Gaussian
from infusion_jax.networks import user_code
from infusion_jax.networks.conv import ConvNet
from infusion_jax.networks.layers import default_lowering
from infusion_jax.networks.mlp import MLP
from infusion_jax.networks.network import Network
from infusion_jax.networks.unet import UNet
from infusion_jax.states.bernoulli import Bernoulli
from infusion_jax.states.infusion import PROPOSALS
from infusion_jax.states.multimodal import Multimodal, repeated
from infusion_jax.states.self_conditioned import SelfConditioned

#: Distributions of states by `chain.states`.
DISTRIBUTIONS = {"gaussian": Gaussian, BITS: Bernoulli}

ImageShape = tuple[int, int, int]


def _mlp(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> nn.Module:
  del image_shape
  return MLP(
    hidden_sizes=model.hidden_sizes,
    variance_scale=chain.variance_scale,
    variance_floor=chain.variance_floor,
    dtype=jnp.dtype(model.dtype),
    num_classes=model.num_classes,
    bits=chain.states == BITS,
    self_conditioning=model.self_conditioning,
    latents=model.latents,
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
    num_classes=model.num_classes,
    bits=chain.states == BITS,
    self_conditioning=model.self_conditioning,
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
    num_classes=model.num_classes,
    bits=chain.states == BITS,
    self_conditioning=model.self_conditioning,
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


def _own(
  own: type[nn.Module], model: ModelConfig, chain: ChainConfig, image_shape: ImageShape
) -> nn.Module:
  """A registered class; its fields called like a key take the key's value."""
  values = {**vars(chain), **vars(model), "dtype": jnp.dtype(model.dtype)}
  fields = {field.name for field in dataclasses.fields(own)} - {"name", "parent"}
  try:
    module = own(**{name: values[name] for name in fields & values.keys()})
    told = (jnp.zeros(2, int),) if model.num_classes else ()
    z = jnp.zeros((2, *image_shape))
    shown = {"seen": jnp.zeros((*z.shape[:-1], z.shape[-1] + 1))}
    found = jax.eval_shape(
      functools.partial(_one_step, module),
      z,
      *told,
      **(shown if model.condition else {}),
    )
  except Exception as error:
    raise UserError(
      f"model.name is {model.name!r}; its network fails on images of shape"
      f" {tuple(image_shape)}: {user_code.explained(error, own)}"
    ) from error
  shapes = [getattr(leaf, "shape", None) for leaf in jax.tree.leaves(found)]
  wanted = DISTRIBUTIONS[chain.states]
  parts = wanted._fields
  if not isinstance(found, wanted) or shapes != [(2, *image_shape)] * len(parts):
    raise UserError(
      f"model.name is {model.name!r}; its network must return a {wanted.__name__} whose"
      f" {' and '.join(parts)} have the shape of z, {(2, *image_shape)}; it returns"
      f" {type(found).__name__} of {shapes}"
    )
  return module


def _one_step(
  module: nn.Module, z: jax.Array, *label: jax.Array, **seen: jax.Array
) -> Distribution:
  key, time = jax.random.key(0), jnp.zeros(())
  return module.init_with_output(key, z, time, False, *label, **seen)[0]


#: Networks of this package by `model.name`. Others: `user_code`.
BUILDERS: dict[str, Callable[[ModelConfig, ChainConfig, ImageShape], nn.Module]] = {
  "mlp": _mlp,
  "conv": _conv,
  "unet": _unet,
}


def distribution_of(model: ModelConfig, chain: ChainConfig) -> type[Distribution]:
  """The type of all states.

  Raises:
    UserError: self-conditioning or latents of bits or of a network that has no such
      thing, or both at once.
  """
  if model.latents > 1:
    return _multimodal(model, chain)
  if not model.self_conditioning:
    return DISTRIBUTIONS[chain.states]
  if chain.states == BITS or model.name not in BUILDERS:
    raise UserError(
      f"model.self_conditioning is True for network {model.name!r} and"
      f" {chain.states!r} states; it takes {', '.join(sorted(BUILDERS))} and 'gaussian'"
    )
  return SelfConditioned


def _multimodal(model: ModelConfig, chain: ChainConfig) -> type[Distribution]:
  if chain.states == BITS or model.name != "mlp" or model.self_conditioning:
    raise UserError(
      f"model.latents is {model.latents} for network {model.name!r}, {chain.states!r}"
      f" states and model.self_conditioning = {model.self_conditioning}; it needs"
      " 'mlp', 'gaussian' and False"
    )
  return Multimodal


def states_of(model: ModelConfig, chain: ChainConfig, p: Distribution) -> Distribution:
  """A distribution of pixels [H, W, C] as that of a network's states.

  Raises:
    UserError: see `distribution_of`.
  """
  kind = distribution_of(model, chain)
  return repeated(p, model.latents) if kind is Multimodal else kind(*p)


def build(model: ModelConfig, chain: ChainConfig, image_shape: ImageShape) -> Network:
  """The network `model` describes, for images of `image_shape`.

  With `model.dtype` = "auto" it is that of float32: a run is built to be checked before
  its type is decided (`training.precision`).

  Raises:
    UserError: no network of that name, one of a file that was not run (see
      `user_code`), or one that does not fit the images.
  """
  if model.dtype == AUTO:
    model = dataclasses.replace(model, dtype=DTYPES[0])
  if model.name in BUILDERS:
    module = BUILDERS[model.name](model, chain, image_shape)
  elif own := user_code.find(model.name):
    module = _own(own, model, chain, image_shape)
  else:
    raise UserError(
      f"model.name is {model.name!r}; allowed are {', '.join(sorted(BUILDERS))} and a"
      " network of your own, FILE.py:Class"
    )
  return Network(
    module,
    tuple(image_shape),
    chain.num_steps,
    model.num_classes,
    distribution_of(model, chain),
    PROPOSALS[chain.infusion],
    shown=bool(model.condition),
    latents=model.latents,
  )
