"""The PyTorch peer at the sizes of the benchmark, if PyTorch is installed."""

import importlib.util
from collections.abc import Callable

import numpy as np

from benchmarks.workloads import Size, made_up
from infusion_jax import schedules

#: Optimizer steps of one timed call.
STEPS = 2


def installed() -> bool:
  """Whether PyTorch is there (extra "bench")."""
  return importlib.util.find_spec("torch") is not None


def train(
  size: Size, *, compiled: bool, autocast: bool = False
) -> Callable[[], object]:
  """A call that takes `STEPS` optimizer steps of the MLP in PyTorch.

  Args:
    size: of the step.
    compiled: whether torch.compile is used.
    autocast: whether products are in bfloat16.

  Returns:
    The work; it returns when the device is done.
  """
  import torch

  from benchmarks.peer import Peer

  device = "cuda" if torch.cuda.is_available() else "cpu"
  images = made_up(size, 10 * size.batch_size).train.reshape(-1, size.pixels)
  prior = (
    np.full(size.pixels, 0.5, np.float32),
    np.full(size.pixels, 1 / 12, np.float32),
  )
  rates = np.asarray(schedules.linear(size.num_steps, 0.0, 0.01))
  options = {"compiled": compiled, "autocast": autocast, "device": device}
  peer = Peer(images, size.hidden, rates, prior, **options)

  def work() -> float:
    return peer.train(size.batch_size, STEPS).item()

  return work
