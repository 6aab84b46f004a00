"""Every command, dead before or after any of its writes, ends with the same bits."""

import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
import runs
from reliability import faults

import infusion_jax
from infusion_jax.datasets import Dataset, cache
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.model import load
from infusion_jax.sweep import conductor, ledger, overrides, result_files, tables
from infusion_jax.sweep.ledger import Folder, Group, Job, SweepProtocol
from infusion_jax.training import loop, metrics_log

#: Every change of a folder at full length, else one in so many.
_WHOLE = bool(os.environ.get("INFUSION_JAX_SOAK"))


def stride(short: int) -> int:
  return 1 if _WHOLE else short


def same(found, expected) -> None:
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def pictures(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def rows(path: pathlib.Path) -> str:
  """The text of a file of rows."""
  return path.read_text()


def test_training(tmp_path):
  def command(folder: pathlib.Path) -> None:
    config = runs.config(num_epochs=2, preview_every=1)
    loop.fit(config, runs.dataset(), folder / "run", progress=False)

  def result(folder: pathlib.Path):
    run = folder / "run"
    assert not [path for path in run.rglob("*") if "tmp" in path.name]
    return (
      infusion_jax.load(run).weights,
      rows(run / metrics_log.FILE),
      pictures(run / "samples"),
    )

  print(faults.survives(tmp_path, command, result, same, stride(29)))


SMALL = Protocol(
  num_images=20,
  num_chains=20,
  repetitions=2,
  search_images=4,
  search_chains=4,
  temperatures=100,
  ais_images=18,
  ais_chains=2,
  sandwich=True,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("trained") / "run"
  loop.fit(runs.config(num_epochs=2), runs.dataset(), folder, progress=False)
  return folder


@pytest.mark.parametrize(
  "metric", ["bound", "importance", pytest.param("ais", marks=pytest.mark.long)]
)
def test_evaluation(trained, tmp_path, metric):
  """Also where two files must agree: batches that are done, and one half annealed.

  Annealing is killed at each of its writes in `test_interrupted`, too.
  """

  def command(folder: pathlib.Path) -> None:
    run = folder / "run"
    session = Session(load(run), runs.dataset(), SMALL, run, progress=False)
    session.measure(metric)

  def result(folder: pathlib.Path):
    stored = json.loads((folder / "run/evaluation.json").read_text())
    return {
      name: [row[key] for key in ("value", "standard_error", "details")]
      for name, row in stored["metrics"].items()
    }

  def begin(folder: pathlib.Path) -> None:
    shutil.copytree(trained, folder / "run")

  def equal(found, expected) -> None:
    assert found == expected

  step = stride(16 if metric == "ais" else 3)
  print(metric, faults.survives(tmp_path, command, result, equal, step, begin))


def test_sweep(tmp_path, monkeypatch):
  """Two groups, their table and the weights of their runs."""
  monkeypatch.setattr(conductor, "load_dataset", lambda data: runs.dataset())
  protocol = SweepProtocol(num_images=10, num_chains=2, num_samples=3)
  groups = [
    Group(
      tuple(
        overrides.configs(
          runs.config(num_epochs=2, batch_size=size),
          overrides.sweep("chain.omega", (0.05, 0.1)),
        )
      )
    )
    for size in (16, 20)
  ]

  def command(folder: pathlib.Path) -> None:
    place = Folder(folder / "sweep")
    place.path.mkdir(parents=True, exist_ok=True)
    with place.locked():
      place.claim(groups)
      for group in groups:
        if place.evaluation(group, protocol) is None:
          conductor.run(Job(str(place.path), group, protocol, progress=False))
        result_files.write(place, tables.collect(place, groups, protocol), protocol)

  def result(folder: pathlib.Path):
    place = Folder(folder / "sweep")
    names = (ledger.RESULTS_FILE, ledger.EVALUATION_FILE, metrics_log.FILE)
    left = [rows(place.group(group) / name) for group in groups for name in names]
    weights = [
      infusion_jax.load(path).weights
      for path in sorted((place.path / "runs").iterdir())
    ]
    assert len(weights) == 4
    return left, weights, rows(place.path / "sweep.csv")

  print(faults.survives(tmp_path, command, result, same, stride(83)))


def test_data_cache(tmp_path):
  source = tmp_path / "source.bin"
  source.write_bytes(b"content")
  images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)

  def command(folder: pathlib.Path) -> None:
    built = Dataset("toy", images, images, images, 17)
    found = cache.load_or_build("toy", [source], lambda: built, str(folder / "cache"))
    np.testing.assert_array_equal(found.train, images)

  def result(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").iterdir())

  def equal(found, expected) -> None:
    assert found == expected

  print(faults.survives(tmp_path, command, result, equal, 1))
