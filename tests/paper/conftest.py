"""A book of tiny descriptions: every layout, on scikit-learn's digits."""

import dataclasses

import pytest

from experiments import reproduce
from infusion_jax.paper import targets
from infusion_jax.paper.descriptions import Book, Panel, Run, Source, Sweep, Target
from infusion_jax.paper.runner import Runner
from infusion_jax.paper.runs import Bench

_DIGITS = (Source("digits", changes={"data.name": "digits", "data.source": "sklearn"}),)
_TINY = {
  "data.max_images": 60,
  "model.hidden_sizes": (8,),
  "chain.num_steps": 3,
  "chain.omega": 0.1,
  "train.batch_size": 20,
  "train.num_epochs": 2,
  "train.keep_every": 1,
  "train.checkpoint_every": 1,
  "train.monitor_images": 10,
  "train.parzen_every": 1,
  "train.parzen_samples": 20,
  "train.preview_every": 0,
}
_PROTOCOL = {"num_images": 4, "num_chains": 3, "repetitions": 2, "search_images": 4}
_OPTIONS = {
  "test": {**_PROTOCOL, "search_chains": 2},
  "train": {**_PROTOCOL, "search_chains": 2},
  "beyond": (),
}
_CONSTANT = {"chain.alpha0": 0.2, "chain.omega": 0.0}


def _runs() -> tuple[Run | Sweep, ...]:
  others = [
    Run(
      name, name, _DIGITS, small={**_TINY, **(_CONSTANT if "constant" in name else {})}
    )
    for name in targets.BOOK.runs
    if name != "table_a1"
  ]
  rates = Sweep(
    "table_a1",
    "digits, infusion rates",
    "sweeps/table_a1",
    _DIGITS,
    panels={"small": (Panel("a", (0.1, 0.3)), Panel("e", (0.06,)))},
    changes={"small": {**_TINY, "train.parzen_every": 0}},
    protocol={"small": {"num_images": 5, "num_chains": 2, "num_samples": 3}},
  )
  return (*others, rates)


_SMALL = {
  "table_3_1": _OPTIONS,
  "figure_3_4": {"num_samples": 20},
  "figure_3_5": {"rows": 2, "columns": 3, "length": 2},
  "table_3_2": {"score_samples": 20},
  "figure_a_2": {"rows": 2, "epoch": 1},
}


def _tiny(target: Target) -> Target:
  options = _SMALL.get(target.name, {**target.small, **target.smoke})
  return dataclasses.replace(target, small=options)


@pytest.fixture(scope="session")
def book() -> Book:
  """The targets of the thesis, made in seconds."""
  tiny = [_tiny(target) for target in targets.TARGETS]
  return Book({run.name: run for run in _runs()}, {t.name: t for t in tiny})


@pytest.fixture
def runner(book, tmp_path) -> Runner:
  """A runner of the tiny book in a folder of its own."""
  bench = Bench(
    workdir=tmp_path / "work",
    data=tmp_path / "data",
    scale="small",
    resolve=reproduce.resolve,
    progress=False,
  )
  return Runner(book, bench, tmp_path / "out", say=lambda text: None)
