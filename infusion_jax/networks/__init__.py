"""Flax transition operators."""

from infusion_jax.networks.build import build
from infusion_jax.networks.mlp import MLP
from infusion_jax.networks.network import Network, Steps
from infusion_jax.networks.norm import StepBatchNorm

__all__ = ["MLP", "Network", "StepBatchNorm", "Steps", "build"]
