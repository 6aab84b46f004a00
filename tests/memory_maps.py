"""The kernel's limit of memory maps, which long tests meet."""

import pathlib

import jax


def keep_few() -> None:
  """Drops what was compiled before the limit is met.

  Each compiled program maps memory of its own; Linux allows 65,530 maps, and the
  compiler dies of a segmentation fault at the next one.
  """
  maps = pathlib.Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > 40_000:
    jax.clear_caches()
