"""The PyTorch peer at the sizes of the benchmark, if PyTorch is installed."""

import importlib.util
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.workloads import Size, made_up
from infusion_jax import schedules

#: Optimizer steps of one timed call; on a GPU steps are a hundred times as short.
STEPS = 2 if jax.default_backend() == "cpu" else 50
#: Ways to run the step in PyTorch by name: what `train` takes for each.
KINDS = {"torch_eager": {"compiled": False}, "torch_compile": {"compiled": True}}


def installed() -> bool:
  """Whether PyTorch is there (extra "bench")."""
  return importlib.util.find_spec("torch") is not None


def train(
  size: Size, *, compiled: bool, autocast: bool = False, graphed: bool = False
) -> Callable[[], object]:
  """A call that takes `STEPS` optimizer steps of the MLP in PyTorch.

  On a GPU its float32 products are in the precision of ours: TF32 but for
  JAX_DEFAULT_MATMUL_PRECISION=highest.

  Args:
    size: of the step.
    compiled: whether torch.compile is used.
    autocast: whether products are in bfloat16.
    graphed: whether the step is captured in a CUDA graph.

  Returns:
    The work; it returns when the device is done.
  """
  import torch

  from benchmarks.peer import Graphed, Peer

  device = "cuda" if torch.cuda.is_available() else "cpu"
  exact = jax.config.jax_default_matmul_precision == "highest"
  torch.set_float32_matmul_precision("highest" if exact else "high")
  images = made_up(size, 10 * size.batch_size).train.reshape(-1, size.pixels)
  prior = (
    np.full(size.pixels, 0.5, np.float32),
    np.full(size.pixels, 1 / 12, np.float32),
  )
  rates = np.asarray(schedules.linear(size.num_steps, 0.0, 0.01))
  options = {"compiled": compiled, "autocast": autocast, "device": device}
  peer = Peer(images, size.hidden, rates, prior, **options)
  if graphed:
    graph = Graphed(peer, size.batch_size)
    return lambda: graph.train(STEPS).item()
  return lambda: peer.train(size.batch_size, STEPS).item()
