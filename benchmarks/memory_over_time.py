"""Memory of one long training: python -m benchmarks.memory_over_time --minutes=30.

Trains on scikit-learn's digits in a process of its own, with a checkpoint at every
epoch and pictures at every second one, so that whatever could leak does so thousands
of times; looks at its resident memory every second, and ends it by SIGTERM. Writes
FOLDER/memory_over_time.json and .png; exit code 1 where memory grows.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from absl import app, flags

from infusion_jax.drawing import line_plots, plots
from infusion_jax.storage import files, provenance
from infusion_jax.training import signals

_MINUTES = flags.DEFINE_float("minutes", 30.0, "How long to train.", lower_bound=0.1)
_OUT = flags.DEFINE_string("out", "results/long_run", "Folder for figure and numbers.")
_MOST = flags.DEFINE_float(
  "most", 1.0, "Growth that is still called flat, in MiB a minute of the second half."
)

_SECONDS_BETWEEN = 1.0
_FLAGS = (
  "--config=configs/digits.py",
  "--config.train.num_epochs=1000000",
  "--config.train.checkpoint_every=1",
  "--config.train.preview_every=2",
  "--noprogress",
)


def main(argv: list[str]) -> None:
  """Trains, looks on, writes."""
  del argv
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / "run"
    process = subprocess.Popen(
      [sys.executable, "-m", "experiments.train", *_FLAGS, f"--workdir={workdir}"],
      stderr=subprocess.DEVNULL,
    )
    try:
      times, sizes = watch(process, 60 * _MINUTES.value)
    finally:
      process.send_signal(signal.SIGTERM)
      began = time.perf_counter()
      code = process.wait(timeout=600)
    seconds_to_stop = time.perf_counter() - began
    epochs = len(files.read_json_lines(workdir / "timing.jsonl"))
  if code != signals.EXIT_CODE:
    sys.exit(f"training ended with exit code {code}, not {signals.EXIT_CODE}")
  found = summary(times, sizes) | {
    "minutes": _MINUTES.value,
    "epochs": epochs,
    "checkpoints": epochs,
    "pictures": 2 * (epochs // 2),
    "seconds_to_stop": round(seconds_to_stop, 2),
  }
  _write(found, times, sizes)
  print(found)
  sys.exit(found["growth_mebibytes_a_minute"] > _MOST.value)


def watch(process: subprocess.Popen, seconds: float) -> tuple[np.ndarray, np.ndarray]:
  """Resident memory of a process over time: seconds and bytes, [N] each."""
  began, times, sizes = time.perf_counter(), [], []
  while (now := time.perf_counter() - began) < seconds and process.poll() is None:
    times.append(now)
    sizes.append(resident_bytes(process.pid))
    time.sleep(_SECONDS_BETWEEN)
  return np.array(times), np.array(sizes)


def resident_bytes(pid: int) -> int:
  """Memory of a process that is in RAM, as Linux tells it."""
  pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
  return int(pages) * os.sysconf("SC_PAGE_SIZE")


def summary(times: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
  """How memory behaved: its largest size, and the slope over the second half."""
  mebibytes = sizes / 2**20
  late = times >= times[-1] / 2
  slope = np.polyfit(times[late] / 60, mebibytes[late], 1)[0]
  quarters = [float(part.mean()) for part in np.array_split(mebibytes, 4)]
  return {
    "largest_mebibytes": round(float(mebibytes.max()), 1),
    "mean_mebibytes_by_quarter": [round(value, 1) for value in quarters],
    "growth_mebibytes_a_minute": round(float(slope), 4),
    "samples": len(sizes),
  }


def _write(found: dict[str, Any], times: np.ndarray, sizes: np.ndarray) -> None:
  folder = pathlib.Path(_OUT.value)
  folder.mkdir(parents=True, exist_ok=True)
  # A sample every ten seconds shows as much as one every second.
  kept = slice(None, None, 10)
  rows = {
    "seconds": times[kept].round(1).tolist(),
    "mebibytes": (sizes[kept] / 2**20).round(1).tolist(),
  }
  content = {**found, **rows, "provenance": provenance.describe()}
  files.write_json(folder / "memory_over_time.json", content)
  picture = line_plots.curves(
    {"training": (times / 60, sizes / 2**20)},
    "minutes",
    "resident memory (MiB)",
    title=f"{found['epochs']} epochs and checkpoints, {found['pictures']} pictures",
    ylim=(0, None),
  )
  plots.save(folder / "memory_over_time.png", picture)


if __name__ == "__main__":
  app.run(main)
