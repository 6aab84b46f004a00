"""A comparison of tiny runs: budget, rows, resuming, tables and pictures."""

import dataclasses

import numpy as np
import pytest
import runs

from infusion_jax.comparison import judge, standings
from infusion_jax.comparison.contest import Contest
from infusion_jax.comparison.judge import REAL
from infusion_jax.comparison.rules import Rules
from infusion_jax.config import ChainConfig
from infusion_jax.datasets import Dataset
from infusion_jax.drawing.rankings import Band
from infusion_jax.errors import UserError
from infusion_jax.peers import METHODS

METHODS_HERE = ("infusion", "vae")
RULES = Rules(
  methods=METHODS_HERE,
  calls=(1, 3),
  main_calls=3,
  num_samples=40,
  curve_samples=20,
  likelihood_images=5,
  ais_images=2,
  temperatures=4,
  classifier_epochs=1,
)


def digits():
  """8x8 images of random greys, the size that the classifier takes."""
  generator = np.random.default_rng(0)
  splits = [
    generator.integers(0, 17, (n, 8, 8, 1), dtype=np.uint8) for n in (64, 20, 20)
  ]
  labels = {"train": np.arange(64) % 2, "test": np.arange(20) % 2}
  return Dataset("tiny", *splits, levels=17), labels


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("contest")
  found = make(folder)
  return found, found.run()


def make(folder, **changes):
  dataset, labels = digits()
  config = dataclasses.replace(
    runs.config(num_epochs=2, checkpoint_every=2), chain=ChainConfig(num_steps=3)
  )
  rules = dataclasses.replace(RULES, **changes)
  return Contest(
    config, rules, dataset, labels, folder, progress=False, say=lambda text: None
  )


def test_all_methods_have_the_same_budget(tmp_path):
  found = make(tmp_path)
  for method in METHODS:
    passes = METHODS[method].passes * found.config_of(method).train.num_epochs
    assert abs(passes - 2 * 3) <= METHODS[method].passes / 2 or passes == (
      METHODS[method].passes
    )


def test_every_method_has_its_rows(finished):
  _, rows = finished
  pictures = {
    (r["method"], r["sampler"], r["calls"], r["samples"]) for r in rows if "fid" in r
  }
  assert {("infusion", "chain", n, 20) for n in (1, 3)} <= pictures
  assert ("infusion", "chain", 3, 40) in pictures
  assert ("VAE", "decoder", 1, 40) in pictures and ("VAE", "decoder", 3, 40) not in (
    pictures
  )
  assert (REAL, "", 0, 40) in pictures
  estimates = {(r["method"], r["likelihood"]) for r in rows if "likelihood" in r}
  assert {("infusion", "bound, 50 chains"), ("VAE", "AIS"), ("VAE", "bound")} <= (
    estimates
  )
  assert all(np.isfinite(v) for r in rows for v in r.values() if isinstance(v, float))


def test_what_is_finished_is_not_made_again(finished, monkeypatch):
  found, rows = finished
  monkeypatch.setattr(judge.Judge, "scores", None)
  monkeypatch.setattr(judge.Judge, "likelihood", None)
  assert make(found.folder).run() == rows


def test_tables_plot_and_grids_are_written(finished):
  found, rows = finished
  written = standings.write(found, rows)
  assert all(path.stat().st_size for path in written.values())
  assert {"table.md", "comparison.json", "quality.png", "samples_vae_decoder.png"} <= (
    set(written)
  )
  table = written["table.md"].read_text()
  assert "| VAE" in table and "| infusion" in table


def test_the_plot_names_infusion_then_the_best_sampler_of_each_method(monkeypatch):
  def line(method, sampler, values):
    facts = {"method": method, "sampler": sampler, "samples": 20}
    return [{**facts, "calls": n, "fid": fid} for n, fid in values.items()]

  rows = [
    *line(REAL, "", {0: 1.0}),
    *line("flow", "slow", {1: 9.0, 3: 5.0}),
    *line("flow", "fast", {1: 9.0, 3: 2.0}),
    *line("once", "decoder", {1: 3.0}),
    *line("infusion", "chain", {1: 90.0, 3: 4.0}),
    {"method": "flow", "likelihood": "exact", "value": 1.0},
  ]
  drawn = {}
  monkeypatch.setattr(
    standings.rankings,
    "compared_curves",
    lambda bands, *labels, **options: drawn.update(bands=bands, **options),
  )
  standings.plot(rows, main_calls=3)
  assert list(drawn["bands"]) == ["infusion", "flow, fast", "once", "flow, slow"]
  assert drawn["bands"]["once"] == Band([1, 3], [[3.0, 3.0]])
  assert drawn["own"] == "infusion" and drawn["reference"] == (REAL, 1.0)


@pytest.mark.parametrize(
  "changes",
  [
    {"methods": ()},
    {"methods": ("vea",)},
    {"calls": (1, 2)},
    {"methods": ("reflow",)},
    {"seed": -1},
  ],
)
def test_rules_that_cannot_be(changes):
  with pytest.raises(UserError, match=r"compare\."):
    dataclasses.replace(RULES, **changes)


def test_the_table_has_the_main_calls_or_the_only_ones():
  rules = dataclasses.replace(RULES, curve_samples=40)
  rows = [
    {"method": "a", "sampler": "s", "calls": n, "samples": 40} for n in (1, 3, 5)
  ] + [{"method": "b", "sampler": "s", "calls": 2, "samples": 40}]
  found = standings.main_rows([*rows, {"method": "a", "likelihood": "bound"}], rules)
  assert [(row["method"], row["calls"]) for row in found] == [("a", 3), ("b", 2)]
