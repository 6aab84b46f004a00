"""Speed and memory in one table: python -m benchmarks.run --json=FILE.

  python -m benchmarks.run --only=train_step,startup --json=results/benchmarks/mine.json

Contestants take turns, and ratios are medians over the rounds of the ratio within a
round. PyTorch takes part if it is installed (pip install -e '.[bench]').
"""

import dataclasses
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags

from benchmarks import peers, timing, workloads
from infusion_jax.drawing import markdown
from infusion_jax.metrics import parzen
from infusion_jax.storage import files, provenance

_ONLY = flags.DEFINE_list("only", [], "Benchmarks to run; by default all.")
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds of turns.", lower_bound=1)
_SMALL = flags.DEFINE_bool("small", False, "Tiny sizes: shows that all works.")

Numbers = dict[str, Any]


def _mlp(batch_size: int = 128) -> workloads.Size:
  if _SMALL.value:
    return workloads.Size(
      side=6, hidden=(16, 16), num_steps=3, batch_size=batch_size // 16
    )
  return workloads.Size(batch_size=batch_size)


def train_step(batch_size: int = 128) -> Numbers:
  """A training step of the MNIST network beside PyTorch and its own products."""
  size = _mlp(batch_size)
  ours = _ours(size)
  began = time.perf_counter()
  ours.train(1)
  compile_seconds = time.perf_counter() - began
  square, square_flops = workloads.ceiling(64 if _SMALL.value else 2048)
  contestants: dict[str, Callable[[], object]] = {
    "ours": lambda: ours.train(peers.STEPS),
    "own_matmuls": _repeated(workloads.own_matmuls(size), peers.STEPS),
    "own_matmuls_summed": _repeated(
      workloads.own_matmuls(size, summed=True), peers.STEPS
    ),
    "ceiling": square,
  }
  for name, kind in _peers().items():
    contestants[name] = peers.train(size, **kind)
  contestants.update(_in_bfloat16(size))
  times = timing.take_turns(contestants, _ROUNDS.value, what=f"train, B = {batch_size}")
  flops = size.useful_flops * peers.STEPS
  # FLOP/s of the step over FLOP/s of the large product, round by round.
  share = times.ratio("ceiling", "ours") * flops / square_flops
  found = {
    "batch_size": size.batch_size,
    "num_steps": size.num_steps,
    "step_seconds": times.median("ours") / peers.STEPS,
    "useful_gflops_per_second": flops / times.median("ours") / 1e9,
    "ceiling_gflops_per_second": square_flops / times.median("ceiling") / 1e9,
    "fraction_of_matmul_ceiling": share,
    "fraction_of_own_matmuls": times.ratio("own_matmuls", "ours"),
    "fraction_of_own_matmuls_summed": times.ratio("own_matmuls_summed", "ours"),
    "first_step_seconds": compile_seconds,
    "bfloat16_step_seconds": times.median("ours_bfloat16") / peers.STEPS,
    "float32_over_bfloat16": times.ratio("ours", "ours_bfloat16"),
    "fraction_of_own_matmuls_bfloat16": times.ratio(
      "own_matmuls_bfloat16", "ours_bfloat16"
    ),
  }
  for name in peers.KINDS:
    for ours, kind in (("ours", ""), ("ours_bfloat16", "_bfloat16")):
      there = f"{name}{kind}" in contestants
      ratio = times.ratio(f"{name}{kind}", ours) if there else None
      found[f"ratio_to_{name}{kind}"] = ratio
  return found


def _ours(size: workloads.Size, dtype: str = "float32") -> workloads.Ours:
  """A run of ours with images enough for the steps of a timed call."""
  count = max(10, peers.STEPS) * size.batch_size
  return workloads.Ours(dataclasses.replace(size, dtype=dtype), count)


def train_step_graph() -> Numbers:
  """The step beside PyTorch's compiled one as one CUDA graph; not on other devices."""
  ratios = {"ratio_to_torch_graph": "ours", "ratio_to_torch_graph_bfloat16": "half"}
  if jax.default_backend() != "gpu" or not peers.installed():
    return dict.fromkeys(ratios)
  size = _mlp()
  steps = {"ours": _ours(size), "half": _ours(size, "bfloat16")}
  contestants: dict[str, Callable[[], object]] = {
    name: functools.partial(ours.train, peers.STEPS) for name, ours in steps.items()
  }
  for name, ours in ratios.items():
    contestants[name] = peers.train(
      size, compiled=True, graphed=True, autocast=ours == "half"
    )
  times = timing.take_turns(contestants, _ROUNDS.value, what="train, CUDA graph")
  return {name: times.ratio(name, ours) for name, ours in ratios.items()} | {
    "torch_graph_step_seconds": times.median("ratio_to_torch_graph") / peers.STEPS
  }


def _in_bfloat16(size: workloads.Size) -> dict[str, Callable[[], object]]:
  """The contestants whose products are in bfloat16: ours and, if there, PyTorch's."""
  half = _ours(size, "bfloat16")
  products = workloads.own_matmuls(half.size)
  found = {
    "ours_bfloat16": lambda: half.train(peers.STEPS),
    "own_matmuls_bfloat16": _repeated(products, peers.STEPS),
  }
  for name, kind in _peers().items():
    found[f"{name}_bfloat16"] = peers.train(size, autocast=True, **kind)
  return found


def _peers() -> dict[str, dict[str, bool]]:
  return peers.KINDS if peers.installed() else {}


def train_step_512() -> Numbers:
  """The same at the batch size of the authors' script."""
  return train_step(512)


def train_step_conv() -> Numbers:
  """A training step of a small convolutional network on 32x32 colour images."""
  size = workloads.Size(
    side=8 if _SMALL.value else 32,
    colors=3,
    num_steps=3 if _SMALL.value else 5,
    batch_size=32,
    model="conv",
    channels=(8, 4) if _SMALL.value else (64, 32, 16),
  )
  ours = workloads.Ours(size)
  square, square_flops = workloads.ceiling(64 if _SMALL.value else 2048)
  contestants = {"ours": lambda: ours.train(1), "ceiling": square}
  times = timing.take_turns(contestants, _ROUNDS.value, what="train, conv")
  return {
    "batch_size": size.batch_size,
    "num_steps": size.num_steps,
    "step_seconds": times.median("ours"),
    "ceiling_gflops_per_second": square_flops / times.median("ceiling") / 1e9,
    "step_in_ceiling_products": times.ratio("ours", "ceiling"),
  }


def sampling() -> Numbers:
  """Drawing 1,000 pictures with the MNIST network."""
  size, count = _mlp(), 10 if _SMALL.value else 1000
  ours = workloads.Ours(size)
  square, square_flops = workloads.ceiling(64 if _SMALL.value else 2048)
  contestants = {"ours": lambda: ours.sample(count), "ceiling": square}
  times = timing.take_turns(contestants, _ROUNDS.value, what="sampling")
  products = sum(2 * count * a * b for a, b in size.layers) * size.num_steps
  return _beside_ceiling(times, products, square_flops) | {"pictures": count}


def bound() -> Numbers:
  """Bound and importance sampling, 64 images with 64 chains each."""
  size, count = _mlp(), 4 if _SMALL.value else 64
  ours = workloads.Ours(size)
  square, square_flops = workloads.ceiling(64 if _SMALL.value else 2048)
  contestants = {"ours": lambda: ours.estimate(count, count), "ceiling": square}
  times = timing.take_turns(contestants, _ROUNDS.value, what="bound")
  products = sum(2 * count**2 * a * b for a, b in size.layers) * size.num_steps
  return _beside_ceiling(times, products, square_flops) | {
    "images": count,
    "chains": count,
  }


def parzen_window() -> Numbers:
  """Parzen estimate, 10,000 images and 10,000 kernels of 784 pixels."""
  size, count = _mlp(), 50 if _SMALL.value else 10_000
  images = workloads.made_up(size, 2 * count).train / 256.0
  square, square_flops = workloads.ceiling(64 if _SMALL.value else 2048)
  contestants = {
    "ours": lambda: parzen.evaluate(images[:count], images[count:]),
    "ceiling": square,
  }
  times = timing.take_turns(contestants, min(3, _ROUNDS.value), what="parzen", warm=1)
  products = 2 * count**2 * size.pixels
  return _beside_ceiling(times, products, square_flops) | {"images": count}


def importance_memory() -> Numbers:
  """Peak memory of importance sampling with 100 and with 2,000 chains an image."""
  few, many = (4, 8) if _SMALL.value else (100, 2000)
  idle = _peak("nothing", 1)
  peaks = {k: _peak("importance", k) for k in (few, many)}
  return {
    "chains": [few, many],
    "peak_mib": [peaks[few] / 2**20, peaks[many] / 2**20],
    "without_estimate_mib": idle / 2**20,
    "ratio": peaks[many] / peaks[few],
  }


def train_memory() -> Numbers:
  """Peak memory of training processes, ours and PyTorch's, B = 128."""
  batch_size = 8 if _SMALL.value else 128
  found = {"ours_mib": _peak("train", batch_size) / 2**20}
  if peers.installed():
    for peer, name in (("peer", "torch_eager"), ("peer_compiled", "torch_compile")):
      found[f"{name}_mib"] = _peak(peer, batch_size) / 2**20
      found[f"ratio_to_{name}"] = found[f"{name}_mib"] / found["ours_mib"]
  return found


def startup() -> Numbers:
  """Seconds to import the library and to read a launcher's help."""
  rounds = 1 if _SMALL.value else 3
  return {
    "import_seconds": _seconds("-c", "import infusion_jax", rounds=rounds),
    "help_seconds": _seconds("-m", "experiments.train", "--help", rounds=rounds),
  }


BENCHMARKS: dict[str, Callable[[], Numbers]] = {
  "train_step": train_step,
  "train_step_512": train_step_512,
  "train_step_graph": train_step_graph,
  "train_step_conv": train_step_conv,
  "sampling": sampling,
  "bound": bound,
  "parzen": parzen_window,
  "importance_memory": importance_memory,
  "train_memory": train_memory,
  "startup": startup,
}


def _repeated(work: Callable[[], object], count: int) -> Callable[[], object]:
  def several() -> None:
    for _ in range(count):
      work()

  return several


def _beside_ceiling(times: timing.Times, flops: int, square_flops: int) -> Numbers:
  return {
    "seconds": times.median("ours"),
    "useful_gflops_per_second": flops / times.median("ours") / 1e9,
    "ceiling_gflops_per_second": square_flops / times.median("ceiling") / 1e9,
    "fraction_of_matmul_ceiling": times.ratio("ceiling", "ours") * flops / square_flops,
  }


def _peak(work: str, number: int) -> int:
  """Peak resident bytes of a process of its own."""
  hidden = 16 if _SMALL.value else 1200
  flagged = [f"--work={work}", f"--size={number}", f"--hidden={hidden}"]
  command = [sys.executable, "-m", "benchmarks.memory", *flagged]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])["peak_bytes"]


def _seconds(*arguments: str, rounds: int) -> float:
  """Median wall time of a Python process."""
  found = []
  for _ in range(rounds):
    began = time.perf_counter()
    # absl's --help ends with exit code 1.
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    found.append(time.perf_counter() - began)
  return statistics.median(found)


def _rows(results: dict[str, Numbers]) -> list[list[str]]:
  return [
    [name, key, _text(value)]
    for name, numbers in results.items()
    for key, value in numbers.items()
  ]


def _text(value: Any) -> str:
  if value is None:
    return "not measured"
  if isinstance(value, list):
    return ", ".join(map(_text, value))
  return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(argv: list[str]) -> None:
  """Runs the benchmarks, prints the table, writes the numbers."""
  del argv
  wanted = _ONLY.value or list(BENCHMARKS)
  for name in wanted:
    if name not in BENCHMARKS:
      allowed = ", ".join(BENCHMARKS)
      sys.exit(f"error: --only names {name!r}; allowed are {allowed}")
  results: dict[str, Numbers] = {}
  for name in wanted:
    results[name] = BENCHMARKS[name]()
    if _JSON.value:
      facts = {
        **provenance.describe(),
        "rounds": _ROUNDS.value,
        "torch": _torch_version(),
      }
      with files.replacing(_JSON.value) as stream:
        stream.write(json.dumps({**results, "about": facts}, indent=2).encode())
  print(markdown.table(["benchmark", "number", "value"], _rows(results)))


def _torch_version() -> str | None:
  if not peers.installed():
    return None
  import torch

  return torch.__version__


if __name__ == "__main__":
  app.run(main)
