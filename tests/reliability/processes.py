"""Training in processes of their own, to be signalled and killed."""

import os
import pathlib
import subprocess
import sys
import time

from launching import ROOT

#: A run of a few seconds, most of which are imports; it saves and draws every epoch.
FLAGS = (
  "--config=configs/digits.py",
  "--config.data.max_images=200",
  "--config.model.hidden_sizes=(8,)",
  "--config.chain.num_steps=3",
  "--config.train.batch_size=16",
  "--config.train.checkpoint_every=1",
  "--config.train.preview_every=1",
  "--noprogress",
)


def start(workdir: pathlib.Path, *flags: str, **options: object) -> subprocess.Popen:
  """Starts `experiments.train` on a workdir."""
  return subprocess.Popen(
    [sys.executable, "-m", "experiments.train", f"--workdir={workdir}", *FLAGS, *flags],
    cwd=ROOT,
    # A kill may tear what it is just putting into the cache that all tests share.
    env={
      **os.environ,
      "PYTHONPATH": str(ROOT),
      "JAX_ENABLE_COMPILATION_CACHE": "false",
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def wait_for(condition, process: subprocess.Popen, seconds: float = 300) -> None:
  """Waits until something is so while a process lives."""
  end = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end, "it takes too long"
    time.sleep(0.02)


def epochs(workdir: pathlib.Path) -> int:
  """How many lines of time a run has noted: epochs, some of them twice."""
  path = workdir / "timing.jsonl"
  return len(path.read_text().splitlines()) if path.exists() else 0
