"""The growth benchmark on tiny networks: its numbers mean what they say."""

import dataclasses

import pytest

from benchmarks import growth
from benchmarks.workloads import Size

TINY = Size(side=8, hidden=(16, 16), num_steps=2, batch_size=64)


def with_steps(*counts):
  return [dataclasses.replace(TINY, num_steps=count) for count in counts]


@pytest.fixture(scope="module")
def found():
  return growth.measure(3, {"T": with_steps(2, 8)}, with_steps(2, 20))


def test_products_grow_with_the_steps_of_the_chain(found):
  row = found["T"]
  assert row["values"] == [2, 8]
  assert row["work_ratio"] == [1.0, 4.0]
  assert row["time_ratio"][0] == 1.0 and row["time_ratio"][1] > 0
  assert all(seconds > 0 for seconds in row["step_seconds"])


def test_memory_of_a_step_does_not_grow_with_t_but_for_its_reports(found):
  memory = found["memory"]
  few, many = memory["temporary_bytes"]
  reports = memory["report_bytes"][1] - memory["report_bytes"][0]
  # A chain kept whole would need a state and a hidden layer for each of 18 steps.
  assert many - few < 18 * memory["one_state_bytes"] / 4 + 3 * reports


def test_the_figure_has_a_line_for_all_that_grows(found):
  assert growth.figure(found).shape == (600, 960, 3)
