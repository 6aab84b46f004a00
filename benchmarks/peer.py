"""The same training step in PyTorch, as a competent user would write it.

Same network, same sums, same optimizer. Nothing waits for the device inside a
step; the draws, which need no gradient, are in inference mode; every step of the
chain is differentiated as soon as its loss is known, from the very forward pass
that the next state is drawn from, so that nothing is computed twice and memory
does not grow with T; Adam is PyTorch's fused one. `torch.compile` gets the step
of the chain and the draw.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

_LOG_2PI = 1.8378770664093453


class Operator(nn.Module):
  """d -> hidden -> hidden -> (mean, variance), batch norm of every step's own."""

  def __init__(self, size: int, hidden: tuple[int, ...], num_steps: int) -> None:
    """Makes the layers; see `networks.mlp.MLP`."""
    super().__init__()
    sizes = (size, *hidden)
    self.hidden = nn.ModuleList(
      nn.Linear(a, b, bias=False) for a, b in zip(sizes, hidden, strict=False)
    )
    self.heads = nn.Linear(hidden[-1], 2 * size)
    self.scale = nn.ParameterList(
      nn.Parameter(torch.ones(h)) for _ in range(num_steps) for h in hidden
    )
    self.bias = nn.ParameterList(
      nn.Parameter(torch.zeros(h)) for _ in range(num_steps) for h in hidden
    )

  def own(self, step: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Scales and biases of one step of the chain."""
    first, count = step * len(self.hidden), len(self.hidden)
    return (
      [self.scale[i] for i in range(first, first + count)],
      [self.bias[i] for i in range(first, first + count)],
    )

  def forward(
    self, z: torch.Tensor, scale: list[torch.Tensor], bias: list[torch.Tensor]
  ) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the next state, [B, d] each."""
    h = z
    for layer, s, b in zip(self.hidden, scale, bias, strict=True):
      h = layer(h)
      h = nn.functional.batch_norm(h, None, None, s, b, True, 0.0, 1e-4)
      h = torch.relu(h)
    # Under autocast the products alone are in bfloat16.
    mean, variance = self.heads(h).float().chunk(2, 1)
    return torch.sigmoid(mean), 0.1 * torch.sigmoid(variance) + 1e-4


def chain_step(
  operator: Operator,
  z: torch.Tensor,
  x: torch.Tensor,
  scale: list[torch.Tensor],
  bias: list[torch.Tensor],
  weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
  """Loss of one step of the chain, and the distribution it leads to."""
  mean, variance = operator(z, scale, bias)
  density = -0.5 * (_LOG_2PI + torch.log(variance) + (x - mean) ** 2 / variance)
  return -weight * density.mean(), mean.detach(), variance.detach()


def infuse(
  noise: torch.Tensor,
  chance: torch.Tensor,
  mean: torch.Tensor,
  variance: torch.Tensor,
  x: torch.Tensor,
  rate: torch.Tensor,
) -> torch.Tensor:
  """A state drawn from the infusion mixture; one noise serves both components."""
  drawn = mean + torch.sqrt(variance) * noise
  return torch.where(chance < rate, x + 1e-2 * noise, drawn)


class Peer:
  """Training with the denoising criterion.

  Attributes:
    operator: the network.
  """

  def __init__(
    self,
    images: np.ndarray,
    hidden: tuple[int, ...],
    rates: np.ndarray,
    prior: tuple[np.ndarray, np.ndarray],
    *,
    compiled: bool,
    autocast: bool = False,
    device: str = "cpu",
  ) -> None:
    """Prepares a run.

    Args:
      images: [N, d] uint8.
      hidden: units of the hidden layers.
      rates: [T] infusion rates.
      prior: mean and variance, [d] each.
      compiled: whether torch.compile is used.
      autocast: whether products are in bfloat16.
      device: where to compute.
    """
    num_steps = len(rates)
    self.operator = Operator(images.shape[1], hidden, num_steps).to(device)
    # "capturable": Adam's step count stays on a GPU, where a CUDA graph can count.
    self.optimizer = torch.optim.Adam(
      self.operator.parameters(), 1e-3, fused=True, capturable=device == "cuda"
    )
    self._images = torch.as_tensor(images, device=device)
    self._prior = [torch.tensor(p, device=device) for p in prior]
    self._rates = torch.as_tensor(rates, dtype=torch.float32, device=device)
    self._weights = (torch.arange(num_steps, device=device) + 1) / num_steps
    self._step = torch.compile(chain_step) if compiled else chain_step
    self._infuse = torch.compile(infuse) if compiled else infuse
    self._device, self._autocast = device, autocast

  def train(self, batch_size: int, num_steps: int) -> torch.Tensor:
    """Takes optimizer steps; returns the last loss."""
    for i in range(num_steps):
      loss = self.step(self.rows(i, batch_size))
    return loss

  def rows(self, i: int, batch_size: int) -> torch.Tensor:
    """Mini-batch i of the images, [B, d] uint8."""
    first = i * batch_size % len(self._images)
    return self._images[first : first + batch_size]

  def step(self, rows: torch.Tensor) -> torch.Tensor:
    """One optimizer step on a mini-batch, [B, d] uint8; returns the loss."""
    x = (rows.float() + torch.rand(rows.shape, device=self._device)) / 256
    loss = self.loss_and_gradient(x, self._draw)
    self.optimizer.step()
    return loss

  def loss_and_gradient(
    self,
    x: torch.Tensor,
    draw: Callable[[int, torch.Size], tuple[torch.Tensor, torch.Tensor]],
  ) -> torch.Tensor:
    """The loss of one mini-batch; gradients are left in the parameters.

    Args:
      x: targets, [B, d].
      draw: gives the noise and the chances of a step of the chain, [B, d] each.

    Returns:
      The loss, nats per pixel.
    """
    self.optimizer.zero_grad(set_to_none=True)
    mean, variance = (p.expand_as(x) for p in self._prior)
    total = torch.zeros((), device=self._device)
    for t in range(len(self._rates)):
      with torch.no_grad():
        z = self._infuse(*draw(t, x.shape), mean, variance, x, self._rates[t])
      own = self.operator.own(t)
      with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
        loss, mean, variance = self._step(self.operator, z, x, *own, self._weights[t])
      loss.backward()
      total = total + loss.detach()
    return total

  def _draw(self, t: int, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    del t
    options = {"device": self._device}
    return torch.randn(shape, **options), torch.rand(shape, **options)


class Graphed:
  """The whole training step of a peer as one CUDA graph, replayed."""

  def __init__(self, peer: Peer, batch_size: int) -> None:
    """Warms up on a stream of its own, as capturing asks for, and captures."""
    self._peer, self._batch_size = peer, batch_size
    self._rows = peer.rows(0, batch_size).clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
      for _ in range(3):
        peer.step(self._rows)
    torch.cuda.current_stream().wait_stream(side)
    self._graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(self._graph):
      self._loss = peer.step(self._rows)

  def train(self, num_steps: int) -> torch.Tensor:
    """Takes optimizer steps; returns the last loss."""
    for i in range(num_steps):
      self._rows.copy_(self._peer.rows(i, self._batch_size))
      self._graph.replay()
    return self._loss
