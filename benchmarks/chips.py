"""Published numbers of accelerators, and the least time that work takes on them."""

import math
from typing import NamedTuple

from benchmarks.hlo import Work

#: Seconds that a message takes from one chip to its neighbour. This is an assumption:
#: no vendor publishes it.
HOP_SECONDS = 1e-6


class Chip(NamedTuple):
  """What the vendor states.

  Attributes:
    flops: of products of float32 numbers as JAX computes them by default; on a TPU
      that is with inputs in bfloat16.
    memory_bytes: of main memory.
    memory_speed: bytes a second to and from it.
    link_speed: bytes a second over all links to other chips together.
  """

  flops: float
  memory_bytes: int
  memory_speed: float
  link_speed: float


#: From cloud.google.com/tpu/docs, system architecture of each version.
CHIPS = {
  "v5e": Chip(197e12, 16 * 10**9, 819e9, 200e9),
  "v5p": Chip(459e12, 95 * 10**9, 2765e9, 600e9),
  "v6e": Chip(918e12, 32 * 10**9, 1640e9, 400e9),
  # NVIDIA's data sheet of the H100 SXM: tensor cores with TF32, which is how JAX
  # computes products of float32 numbers there by default; NVLink in one direction.
  "h100": Chip(494e12, 80 * 10**9, 3350e9, 450e9),
}
#: What the compiler for GPUs asks a device for, where there is none.
GPU_TARGETS = {
  "h100": """
    gpu_device_info {
      threads_per_block_limit: 1024
      threads_per_warp: 32
      shared_memory_per_block: 49152
      shared_memory_per_core: 233472
      shared_memory_per_block_optin: 232448
      threads_per_core_limit: 2048
      core_count: 132
      fpus_per_core: 128
      block_dim_limit_x: 2147483647
      block_dim_limit_y: 65535
      block_dim_limit_z: 65535
      memory_bandwidth: 3350000000000
      l2_cache_size: 52428800
      clock_rate_ghz: 1.98
      device_memory_size: 80000000000
      cuda_compute_capability { major: 9 }
      registers_per_core_limit: 65536
      registers_per_block_limit: 65536
    }
    platform_name: "CUDA"
    dnn_version_info { major: 9 minor: 10 }
    device_description_str: "NVIDIA H100"
  """
}


class Roofline(NamedTuple):
  """Estimated seconds of a unit of work on one of several chips.

  Attributes:
    compute: of its products at the chip's peak.
    memory: of its traffic with main memory.
    links: of the bytes of its collectives.
    latency: of the hops of its collectives, one after the other.
  """

  compute: float
  memory: float
  links: float
  latency: float

  @property
  def step(self) -> float:
    """All of it: products run while memory is read, collectives wait for both."""
    return max(self.compute, self.memory) + self.collectives

  @property
  def collectives(self) -> float:
    """What chips spend on each other."""
    return self.links + self.latency


def roofline(chip: Chip, flops: float, work: Work, sides: tuple[int, ...]) -> Roofline:
  """The least time of some work, were nothing but the published numbers in its way.

  Args:
    chip: the kind of chip.
    flops: of one chip.
    work: of one chip.
    sides: of the grid of chips that share the work.

  Returns:
    The estimate. An all-reduce on a ring of n moves 2 (n - 1) / n of its bytes, and
    takes 2 (n - 1) hops; a grid is a ring for each side.
  """
  count = math.prod(sides)
  moved = sum(c.bytes * c.times for c in work.collectives)
  hops = 2 * sum(side - 1 for side in sides)
  return Roofline(
    compute=flops / chip.flops,
    memory=work.bytes / chip.memory_speed,
    links=2 * (count - 1) / count * moved / chip.link_speed,
    latency=hops * HOP_SECONDS * sum(c.times for c in work.collectives),
  )
