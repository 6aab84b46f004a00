"""Flax transition operators."""

from infusion_jax.networks.build import build, states_of
from infusion_jax.networks.conv import ConvNet
from infusion_jax.networks.mlp import MLP
from infusion_jax.networks.network import Network
from infusion_jax.networks.norm import StepBatchNorm
from infusion_jax.networks.unet import UNet
from infusion_jax.networks.user_code import register

__all__ = [
  "MLP",
  "ConvNet",
  "Network",
  "StepBatchNorm",
  "UNet",
  "build",
  "register",
  "states_of",
]
