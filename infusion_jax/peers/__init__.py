"""Rival methods in one shape: what else could be trained on the same budget.

One file a method; `METHODS` names them all. To add one, write its `Peer` and its line.
"""

import dataclasses
import importlib.util

from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.networks import Network, build
from infusion_jax.peers.consistency import ConsistencyTraining
from infusion_jax.peers.ddpm import DDPM
from infusion_jax.peers.denoising_autoencoder import DenoisingAutoencoder
from infusion_jax.peers.flow_matching import FlowMatching
from infusion_jax.peers.gan import GAN
from infusion_jax.peers.generator import Generator
from infusion_jax.peers.gmmn import GMMN
from infusion_jax.peers.gsn import GSN
from infusion_jax.peers.normalizing_flow import NormalizingFlow
from infusion_jax.peers.peer import Peer, PeerNetwork, Trained, pictures
from infusion_jax.peers.reflow import Reflow
from infusion_jax.peers.vae import VAE
from infusion_jax.peers.variational_walkback import VariationalWalkback

__all__ = [
  "DDPM",
  "GAN",
  "GMMN",
  "GSN",
  "METHODS",
  "ORIGINS",
  "OURS",
  "PLAIN",
  "VAE",
  "ConsistencyTraining",
  "DenoisingAutoencoder",
  "FlowMatching",
  "Generator",
  "NormalizingFlow",
  "Peer",
  "PeerNetwork",
  "Reflow",
  "Trained",
  "VariationalWalkback",
  "network_of",
  "pictures",
]

#: The method of this project.
OURS = "infusion"
#: Peers by `train.method`, oldest first.
METHODS: dict[str, type[Peer]] = {
  "denoising_autoencoder": DenoisingAutoencoder,
  "gsn": GSN,
  "vae": VAE,
  "gan": GAN,
  "gmmn": GMMN,
  "normalizing_flow": NormalizingFlow,
  "ddpm": DDPM,
  "variational_walkback": VariationalWalkback,
  "flow_matching": FlowMatching,
  "reflow": Reflow,
  "consistency": ConsistencyTraining,
}
#: Those that need no further library.
PLAIN = tuple(name for name, kind in METHODS.items() if not kind.needs)
#: The method that must be trained before, by `train.method`.
ORIGINS = {"reflow": "flow_matching"}


def network_of(
  config: Config, image_shape: tuple[int, int, int]
) -> Network | PeerNetwork:
  """What a configuration trains: the chain's network, or a peer in its place.

  Raises:
    UserError: there is no such method or network, a peer of another network than the
      perceptron, or a library that it needs is missing.
  """
  method = config.train.method
  if method == OURS:
    network = build(config.model, config.chain, image_shape)
    return dataclasses.replace(network, learn_rates=config.train.learn_rates)
  if method not in METHODS:
    allowed = ", ".join([OURS, *METHODS])
    raise UserError(f"train.method is {method!r}; allowed are {allowed}")
  if config.model.name != "mlp":
    raise UserError(
      f"model.name is {config.model.name!r}; train.method = {method!r} takes 'mlp'"
    )
  needed = METHODS[method].needs
  if needed and not importlib.util.find_spec(needed):
    raise UserError(
      f"train.method = {method!r} needs {needed}, which is not installed;"
      f" pip install 'infusion_jax[peers]' or pip install {needed} brings it"
    )
  peer = METHODS[method](tuple(image_shape), tuple(config.model.hidden_sizes))
  return PeerNetwork(peer, config.chain.num_steps)
