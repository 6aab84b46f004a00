"""Commands killed at random moments, again and again: the end is always the same.

Where every write is a moment of its own, `test_faults` is thorough; here processes
are real, and so are kills while they import, compile and compute.
"""

import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import launching
import numpy as np
import pytest
from PIL import Image
from reliability import processes

from infusion_jax.storage import files

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not os.environ.get("INFUSION_JAX_SOAK"),
    reason="takes half an hour; INFUSION_JAX_SOAK=1 (make soak) runs it",
  ),
]

_SWEEP = """
import ml_collections
from configs import base
from infusion_jax.sweep.overrides import sweep

def get_config():
  config = ml_collections.ConfigDict()
  config.base = base.get_config()
  config.base.data.max_images = 64
  config.base.model.hidden_sizes = (8,)
  config.base.chain.num_steps = 3
  config.base.train.batch_size = 16
  config.base.train.num_epochs = 100
  config.runs = sweep("chain.omega", [0.05, 0.1]) + sweep("train.batch_size", [8, 32])
  return config
"""


def survive(
  folder: pathlib.Path,
  command: Callable[[pathlib.Path], subprocess.Popen],
  result: Callable[[pathlib.Path], Any],
  kills: int,
) -> int:
  """Kills a command until it has been killed so often; how often it came to its end."""
  began = time.monotonic()
  finish(command(folder / "whole"))
  seconds, expected = time.monotonic() - began, result(folder / "whole")
  random, ends, place = np.random.default_rng(0), 0, folder / "killed"
  killed = 0
  while killed < kills:
    process = command(place)
    try:
      process.wait(random.uniform(0.3, 0.9) * seconds)
    except subprocess.TimeoutExpired:
      process.kill()
      process.communicate()
      killed += 1
      continue
    finish(process)
    assert result(place) == expected
    shutil.rmtree(place)
    ends += 1
  finish(command(place))
  assert result(place) == expected
  return ends + 1


def finish(process: subprocess.Popen) -> None:
  out, err = process.communicate(timeout=1800)
  assert process.returncode == 0, out + err


def test_sweep(tmp_path):
  config = tmp_path / "sweep.py"
  config.write_text(_SWEEP)
  short = ("--num_images=10", "--num_chains=2", "--num_samples=3", "--noprogress")

  def command(folder: pathlib.Path) -> subprocess.Popen:
    return launching.start("sweep", f"--config={config}", f"--workdir={folder}", *short)

  def result(folder: pathlib.Path):
    content = files.read_json(folder / "sweep.json")
    del content["provenance"]
    return content, (folder / "sweep.csv").read_text()

  print("sweep: 40 kills,", survive(tmp_path, command, result, 40), "ends")


def test_evaluation(tmp_path):
  trained = tmp_path / "trained"
  finish(processes.start(trained, "--config.train.num_epochs=3"))
  options = ("--metrics=bound,importance,ais", "--num_images=64", "--noprogress")
  lengths = ("--num_chains=20", "--ais_images=32", "--temperatures=2000")

  def command(folder: pathlib.Path) -> subprocess.Popen:
    if not folder.exists():
      shutil.copytree(trained, folder)
    return launching.start("evaluate", f"--workdir={folder}", *options, *lengths)

  def result(folder: pathlib.Path):
    found = files.read_json(folder / "evaluation.json")["metrics"]
    return {name: (row["value"], row["details"]) for name, row in found.items()}

  print("evaluate: 40 kills,", survive(tmp_path, command, result, 40), "ends")


def test_reproduction(tmp_path):
  def command(folder: pathlib.Path) -> subprocess.Popen:
    options = ("--target=figure_3_1", "--scale=smoke", "--noprogress")
    places = (f"--workdir={folder}/work", f"--out={folder}/out")
    return launching.start("reproduce", *options, *places)

  def result(folder: pathlib.Path):
    pictures = {}
    for path in sorted((folder / "out").rglob("*.png")):
      with Image.open(path) as picture:
        pictures[path.name] = np.asarray(picture).tobytes()
    assert pictures
    return pictures

  print("reproduce: 20 kills,", survive(tmp_path, command, result, 20), "ends")
