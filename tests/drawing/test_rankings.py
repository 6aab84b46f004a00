"""Which curves stand out and are named, where names stand, how rows are sorted."""

import numpy as np
import pytest

from infusion_jax.drawing import rankings
from infusion_jax.drawing.rankings import Band
from infusion_jax.errors import UserError


def colours(picture) -> set[str]:
  """The colours of lines that are in a picture unmixed."""
  found = {
    "#" + bytes(c).hex().upper() for c in np.unique(picture.reshape(-1, 3), axis=0)
  }
  return found & set(rankings._COLORS)


def test_eight_curves_stand_out_and_the_rest_is_grey():
  bands = {f"{i}": Band([1, 2, 3], [[0, i, 2 * i]]) for i in range(12, 0, -1)}
  assert colours(rankings.ranked_curves(bands, "x", "y")) == set(rankings._COLORS)
  few = dict(list(bands.items())[:3])
  drawn = colours(rankings.ranked_curves(few, "x", "y"))
  assert drawn == {*rankings._COLORS[:3], "#000000"}


def test_of_compared_curves_the_own_is_thickest_and_equal_ratios_are_spaced_equally():
  calls = [1, 10, 100]
  bands = {f"{i}": Band(calls, [[1.5**i, 15.0**i, 150.0**i]]) for i in range(1, 11)}
  picture = rankings.compared_curves(bands, "x", "y", own="2", reference=("best", 1.2))
  assert colours(picture) == set(rankings._COLORS)
  plain = rankings.compared_curves(bands, "x", "y")
  assert area(picture, 1) > 1.4 * area(plain, 1)
  assert area(picture, 0) == pytest.approx(area(plain, 0), rel=0.1)
  straight = rankings.compared_curves({"": Band(calls, [calls])}, "x", "y")
  rows, columns = np.nonzero(of_colour(straight, 0))
  assert abs(np.corrcoef(rows, columns)[0, 1]) > 0.999


def of_colour(picture, index: int) -> np.ndarray:
  color = np.array(list(bytes.fromhex(rankings._COLORS[index][1:])))
  return np.abs(picture.astype(int) - color).sum(-1) < 30


def area(picture, index: int) -> int:
  return of_colour(picture, index).sum()


def test_a_curve_below_the_picture_has_no_name():
  middles = {
    "deep": np.full(3, -900.0),
    "good": np.arange(3.0),
    "gap": np.full(3, np.nan),
  }
  assert rankings.named_lines(middles, 0.0) == ["good"]
  assert rankings.named_lines(middles, None) == ["deep", "good"]


def test_a_band_reaches_from_the_lowest_to_the_highest_seed():
  line = rankings._line("a", Band([1, 2], [[1.0, 5.0], [3.0, 4.0]]))
  np.testing.assert_array_equal(line.low, [1, 4])
  np.testing.assert_array_equal(line.middle, [2, 4.5])
  np.testing.assert_array_equal(line.high, [3, 5])


def test_names_keep_their_order_and_distance():
  found = rankings.spread([0.5, 0.52, 0.1, 0.99, 1.0, 0.51], 0.1)
  order = np.argsort(found)
  np.testing.assert_array_equal(order, [2, 0, 5, 1, 3, 4])
  assert np.diff(np.sort(found)).min() > 0.1 - 1e-9
  assert max(found) == 1.0 and found[2] == 0.1 and found[0] == 0.5


def test_rows_are_sorted_by_their_mean():
  nan = float("nan")
  rows = {"low": [(1.0, nan)], "high": [(9.0, 0.1), (5.0, 0.1)], "middle": [(6.0, 1.0)]}
  assert rankings.ranking(rows) == ["high", "middle", "low"]
  few = rankings.dots(rows, "x", reference="low")
  more = rankings.dots(rows | {"other": [(2.0, 0.5)]}, "x")
  assert more.shape[0] - few.shape[0] == 45


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0]], np.zeros((0, 2))])
def test_arrays_that_do_not_match_are_refused(values):
  with pytest.raises(UserError, match="'a' has shapes"):
    rankings.ranked_curves({"a": Band([1, 2], values)}, "x", "y")
