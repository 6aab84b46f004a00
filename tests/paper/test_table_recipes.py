"""Which lines table A.1 has."""

import types

from infusion_jax.config import Config
from infusion_jax.paper import table_recipes
from infusion_jax.storage import published_numbers
from infusion_jax.sweep import overrides, tables


def row(bound, **chain):
  changes = {f"chain.{name}": value for name, value in chain.items()}
  config = overrides.apply(Config(), {"data.name": "mnist", **changes})
  published = overrides.published_bound(config)
  facts = dict.fromkeys(tables.Row._fields)
  facts |= {"config": config, "place": overrides.place(config), "status": "finished"}
  return tables.Row(**facts | {"test_bound": bound, "published": published})


def test_every_published_rate_has_a_line_and_the_script_s_reading_another():
  rows = [
    row(1.0, num_steps=5, omega=0.1),
    row(2.0, num_steps=5, omega=0.1, repeat_first_rate=True),
    row(3.0, num_steps=10, omega=0.02, repeat_first_rate=True),
    row(4.0, num_steps=7, omega=0.1),
  ]
  found = table_recipes._published_rates(types.SimpleNamespace(rows=rows))
  table = published_numbers.numbers("table_a1_mnist_lower_bound_test")
  published = sum(len(rates) for rates in table.values() if isinstance(rates, dict))
  lines = {number.name: number for number in found}
  assert len(found) == len(lines) == published + 2
  told = {name: line.value for name, line in lines.items() if line.value is not None}
  assert told == {
    "T = 5, rate 0.1": 1.0,
    "T = 5, rate 0.1, first rate twice": 2.0,
    "T = 10, rate 0.02, first rate twice": 3.0,
  }
  once, twice = (lines[f"T = 5, rate 0.1{how}"] for how in ("", ", first rate twice"))
  assert once.published == twice.published == table["T=5"]["0.1"]
