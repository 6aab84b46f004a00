"""Training in processes of their own, to be signalled and killed."""

import pathlib
import subprocess

import launching

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


def start(workdir: pathlib.Path, *flags: str, **variables: str) -> subprocess.Popen:
  """Starts `experiments.train` on a workdir."""
  return launching.start("train", f"--workdir={workdir}", *FLAGS, *flags, **variables)


def epochs(workdir: pathlib.Path) -> int:
  """How many lines of time a run has noted: epochs, some of them twice."""
  path = workdir / "timing.jsonl"
  return len(path.read_text().splitlines()) if path.exists() else 0
