"""Sweeps as lists: combinators, identities, groups, places in the table."""

import pathlib

import numpy as np
import pytest
import runs

from configs.sweeps import digits, table_a1
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.sweep import overrides
from infusion_jax.sweep.overrides import chained, product, sweep, zipped
from infusion_jax.training.state import make_rates


def schedule(num_steps=5, **chain):
  values = {"alpha0": 0.0, "omega": 0.0, **chain}
  override = {f"chain.{name}": value for name, value in values.items()}
  return overrides.apply(Config(), {"chain.num_steps": num_steps, **override})


def mnist(*arguments, **chain):
  return overrides.replaced(schedule(*arguments, **chain), "data.name", "mnist")


def test_combinators():
  a, b = sweep("x.a", [1, 2]), sweep("x.b", [3, 4])
  assert a == [{"x.a": 1}, {"x.a": 2}]
  assert product(a, b) == [
    {"x.a": 1, "x.b": 3},
    {"x.a": 1, "x.b": 4},
    {"x.a": 2, "x.b": 3},
    {"x.a": 2, "x.b": 4},
  ]
  assert zipped(a, b) == [{"x.a": 1, "x.b": 3}, {"x.a": 2, "x.b": 4}]
  assert chained(a, b) == [*a, *b]
  assert product(a, sweep("x.a", [9])) == [{"x.a": 9}, {"x.a": 9}]
  assert product() == [{}] and chained() == [] and zipped() == []


def test_zipped_lists_of_different_lengths_are_refused():
  with pytest.raises(UserError, match=r"lengths \[1, 2\]"):
    zipped(sweep("x.a", [1]), sweep("x.b", [1, 2]))


def test_overrides_are_applied():
  config = overrides.apply(
    runs.config(), {"chain.omega": 0.2, "model.hidden_sizes": [4]}
  )
  assert config.chain.omega == 0.2 and config.model.hidden_sizes == (4,)
  assert config.train == runs.config().train


@pytest.mark.parametrize(
  ("override", "told"),
  [
    ({"omega": 0.1}, "sets 'omega'"),
    ({"chian.omega": 0.1}, "sets 'chian.omega'"),
    ({"chain.omegas": 0.1}, "did you mean omega"),
    ({"chain.omega": "much"}, "'much'"),
    ({"chain.alpha0": 2.0}, "alpha0 is 2"),
  ],
)
def test_wrong_overrides_are_refused(override, told):
  with pytest.raises(UserError, match=told):
    overrides.apply(runs.config(), override)


def test_a_sweep_without_runs_is_refused():
  with pytest.raises(UserError, match="no runs"):
    overrides.configs(runs.config(), [])


def test_equal_runs_are_one():
  found = overrides.configs(runs.config(), sweep("chain.omega", [0.1, 0.2, 0.1]))
  assert [config.chain.omega for config in found] == [0.1, 0.2]


def test_an_identity_depends_on_all_that_decides_the_result():
  base = runs.config()
  same = [{"data.path": "x"}, {"train.preview_every": 7}, {"train.checkpoint_every": 9}]
  other = [{"chain.omega": 0.2}, {"train.num_epochs": 9}, {"train.seed": 1}]
  name = overrides.identity(base)
  assert len(name) == 12
  assert {overrides.identity(overrides.apply(base, o)) for o in same} == {name}
  assert (
    len({name, *(overrides.identity(overrides.apply(base, o)) for o in other)}) == 4
  )


def test_runs_are_grouped_by_what_is_static():
  found = overrides.configs(
    runs.config(),
    chained(
      product(sweep("chain.num_steps", [3, 5]), sweep("chain.omega", [0.1, 0.2])),
      sweep("train.seed", [1]),
      sweep("train.learning_rate", [0.5]),
      sweep("train.num_epochs", [9]),
      sweep("model.hidden_sizes", [(9,)]),
    ),
  )
  groups = overrides.grouped(found)
  assert [len(group) for group in groups] == [4, 2, 1, 1]
  assert [config.train.seed for config in groups[0]] == [0, 0, 1, 0]


def test_groups_are_cut_evenly():
  base = runs.config()
  for count, most, sizes in [(12, 8, [6, 6]), (7, 3, [2, 3, 2]), (3, 8, [3])]:
    parts = overrides.evenly([base] * count, most)
    assert [len(part) for part in parts] == sizes


def test_keys_that_vary():
  found = overrides.configs(
    runs.config(),
    product(sweep("chain.omega", [0.1, 0.2]), sweep("train.seed", [0, 1])),
  )
  assert overrides.varying(found) == ["chain.omega", "train.seed"]
  assert overrides.varying(found[:1]) == []


@pytest.mark.parametrize(
  ("config", "others", "expected"),
  [
    (schedule(1, alpha0=0.3), [], ("T = 1", 0.3, "0.3")),
    (schedule(5, omega=0.1), [], ("T = 5, increasing rate", 0.1, "0.1")),
    (schedule(5), [], ("T = 5, increasing rate", 0.0, "0")),
    (schedule(10, alpha0=0.08), [], ("T = 10, constant rate", 0.08, "0.08")),
    (
      schedule(5, alpha0=0.1, omega=0.02),
      [],
      ("T = 5, rate increasing from 0.1", 0.02, "0.02"),
    ),
    (
      schedule(2, rates=(0.1, 0.5)),
      ["chain.rates"],
      ("T = 2, given rates", None, "0.1 0.5"),
    ),
    (
      schedule(5, omega=0.1, repeat_first_rate=True),
      ["train.seed", "train.learning_rate"],
      (
        "T = 5, increasing rate, first rate twice, learning_rate = 0.001",
        0.1,
        "0.1, seed 0",
      ),
    ),
  ],
)
def test_places_in_the_table(config, others, expected):
  assert overrides.place(config, overrides.Arrangement(others)) == (*expected, "rate")


def test_a_setting_that_most_runs_have_goes_without_saying():
  rates, seeds = sweep("chain.omega", [0.1, 0.2]), sweep("train.seed", [0, 1])
  table = chained(
    product(rates, seeds),
    product(rates, [{"train.decay": "cosine", "train.clip": 1.0}]),
  )
  found = overrides.configs(mnist(5), table)
  arranged = overrides.arrangement(found)
  places = [overrides.place(config, arranged) for config in found]
  assert arranged.by == "rate"
  assert {place.panel for place in places} == {
    "T = 5, increasing rate",
    "T = 5, increasing rate, decay = cosine, clip = 1.0",
  }
  assert places[0].label == "0.1, seed 0"


def test_settings_without_a_majority_are_all_named():
  table = product(sweep("chain.omega", [0.1, 0.2]), sweep("train.batch_size", [64, 32]))
  found = overrides.configs(mnist(5), table)
  arranged = overrides.arrangement(found)
  assert {overrides.place(config, arranged).panel for config in found} == {
    "T = 5, increasing rate, batch_size = 64",
    "T = 5, increasing rate, batch_size = 32",
  }


def test_with_one_schedule_the_lines_are_what_is_changed():
  changes = [{}, {"train.decay": "cosine"}, {"train.clip": 1.0, "train.seed": 1}]
  found = overrides.configs(mnist(5, omega=0.1), changes)
  arranged = overrides.arrangement(found)
  places = [overrides.place(config, arranged) for config in found]
  assert {place.panel for place in places} == {"T = 5, increasing rate (0.1)"}
  assert {place.by for place in places} == {"change"}
  assert [place.label for place in places] == [
    "unchanged, seed 0",
    "decay = cosine, seed 0",
    "clip = 1.0, seed 1",
  ]


def test_seeds_alone_are_no_change():
  found = overrides.configs(mnist(5, omega=0.1), sweep("train.seed", [0, 1]))
  assert overrides.arrangement(found).by == "rate"


def test_published_values():
  assert overrides.published_bound(mnist(1, alpha0=0.3)) == 1209.39
  assert overrides.published_bound(mnist(5, omega=0.1)) == 1448.66
  assert overrides.published_bound(mnist(5)) == 823.81
  assert overrides.published_bound(mnist(5, omega=0.11)) is None
  assert overrides.published_bound(mnist(5, alpha0=0.1)) is None
  assert overrides.published_bound(schedule(5, omega=0.1)) is None
  assert overrides.published_best(mnist(1, alpha0=0.9)) == 0.3
  assert overrides.published_best(mnist(15, omega=0.05)) == 0.01
  assert overrides.published_best(mnist(10, alpha0=0.05)) == 0.08
  assert overrides.published_best(mnist(7, omega=0.1)) is None
  assert overrides.published_best(schedule(5, omega=0.1)) is None


def test_the_sweep_of_table_a1_is_the_published_one():
  values = table_a1.get_config().to_dict()
  found = overrides.configs(Config.from_dict(values["base"]), values["runs"])
  assert len(found) == 12 + 8 + 8 + 7 + 8 + 8
  assert sum(overrides.published_bound(config) is not None for config in found) == 35
  assert [len(group) for group in overrides.grouped(found)] == [12, 8, 16, 15]
  panels = {overrides.place(config).panel for config in found}
  assert panels == {
    "T = 1",
    "T = 5, increasing rate",
    "T = 10, increasing rate",
    "T = 15, increasing rate",
    "T = 10, constant rate",
    "T = 15, constant rate",
  }


def test_a_title_names_only_what_tells_runs_of_its_panel_apart():
  runs = [mnist(1, alpha0=0.3), mnist(1, alpha0=0.4)]
  longer = [
    overrides.replaced(mnist(5, omega=o), "train.num_epochs", 7) for o in (0, 0.1)
  ]
  assert "train.num_epochs" in overrides.varying([*runs, *longer])
  assert set(overrides.varying_within_panels([*runs, *longer])) == {
    "chain.alpha0",
    "chain.omega",
  }
  other = overrides.replaced(runs[0], "train.learning_rate", 0.01)
  assert "train.learning_rate" in overrides.varying_within_panels(
    [*runs, other, *longer]
  )


def test_single_sub_tables():
  assert len(table_a1.get_config("a").runs) == 12
  assert len(table_a1.get_config("b, d").runs) == 15
  with pytest.raises(UserError, match="'g'; allowed are a, b"):
    table_a1.get_config("a,g")


def test_sub_tables_in_the_reading_of_the_script():
  values = table_a1.get_config("b,b_twice,d_twice").to_dict()
  found = overrides.configs(Config.from_dict(values["base"]), values["runs"])
  assert len(found) == 8 + 8 + 7
  for once, twice in zip(found[:8], found[8:16], strict=True):
    assert overrides.published_bound(once) == overrides.published_bound(twice)
  rates = make_rates(found[13].chain)
  np.testing.assert_allclose(rates, [0, 0, 0.1, 0.2, 0.3], rtol=1e-6)
  assert overrides.place(found[-1]).panel == "T = 15, increasing rate, first rate twice"


def test_the_digits_sweep_is_one_group_of_sixteen():
  values = digits.get_config().to_dict()
  found = overrides.configs(Config.from_dict(values["base"]), values["runs"])
  assert [len(group) for group in overrides.grouped(found)] == [16]


def test_every_sweep_opens_with_its_command():
  folder = pathlib.Path(digits.__file__).parent
  for path in folder.glob("[a-z]*.py"):
    text = path.read_text()
    assert f"--config=configs/sweeps/{path.name}" in text
    assert "Expected time" in text and "Expected result" in text
