"""Pictures of a sweep's table: what is drawn as one curve, which table is ranked."""

import runs

from infusion_jax.sweep import overrides, result_files, tables
from infusion_jax.sweep.tables import Row


def rows_of(changes, bounds) -> list[Row]:
  """Rows of two seeds each, whose bounds are given."""
  table = overrides.configs(runs.config(), changes)
  arranged = overrides.arrangement(table)
  return [
    Row(
      config=config,
      run=str(number),
      place=overrides.place(config, arranged),
      status="finished",
      epochs=2,
      best_bound=bound,
      best_epoch=2,
      test_bound=bound,
      standard_error=0.5,
      published=None,
      curve=([1, 2], [bound - 1, bound]),
      samples=None,
    )
    for number, (config, bound) in enumerate(zip(table, bounds, strict=True))
  ]


SEEDS = overrides.sweep("train.seed", (0, 1))
CHANGES = overrides.product([{}, {"train.clip": 1.0}, {"train.ema_decay": 0.9}], SEEDS)


def test_seeds_of_one_setting_are_one_band_and_the_best_comes_first():
  found = result_files._by_setting(rows_of(CHANGES, [3.0, 5.0, 7.0, 9.0, 1.0, 2.0]))
  assert list(found) == ["clip = 1.0", "unchanged", "ema_decay = 0.9"]
  band = result_files._band(found["unchanged"])
  assert list(band.x) == [1, 2]
  assert band.values == [[2.0, 3.0], [4.0, 5.0]]


def test_only_a_table_of_changes_is_ranked(monkeypatch):
  drawn = []

  def dots(points, *titles, **more):
    drawn.append((points, more))

  monkeypatch.setattr(result_files.rankings, "dots", dots)
  rows = rows_of(CHANGES, [3.0, 5.0, 7.0, 9.0, 1.0, 2.0])
  result_files.changes(tables.panels(rows))
  ((points, more),) = drawn
  assert points["unchanged"] == [(3.0, 0.5), (5.0, 0.5)]
  assert set(points) == {"unchanged", "clip = 1.0", "ema_decay = 0.9"}
  assert more == {"reference": "unchanged"}
  rates = rows_of(overrides.sweep("chain.omega", (0.1, 0.2)), [1.0, 2.0])
  assert result_files.changes(tables.panels(rates)) is None
  untested = [row._replace(test_bound=None) for row in rows]
  assert result_files.changes(tables.panels(untested)) is None
