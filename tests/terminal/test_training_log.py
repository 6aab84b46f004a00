"""What a training tells: lines by a clock of the test's own, the bar as text."""

import io

import pytest

from infusion_jax.terminal import counting, training_log


class Clock:
  """Seconds that pass when the test says so."""

  now = 0.0

  def __call__(self) -> float:
    return self.now


@pytest.fixture
def clock():
  return Clock()


def lines(clock, num_epochs=4, per_epoch=10, title=""):
  told = []
  log = training_log.Lines(num_epochs, per_epoch, title, clock, told.append)
  return log, told


def epochs(log, clock, seconds):
  """Ends epochs that take these times."""
  for epoch, taken in enumerate(seconds, 1):
    clock.now += taken
    log.epoch(epoch, taken, {"bound": "-7.25"})


def test_one_line_an_epoch_and_the_time_left(clock):
  log, told = lines(clock)
  epochs(log, clock, [60.0, 20.0, 30.0, 25.0])
  assert told == [
    "epoch 1/4  bound -7.25  60 s  left 3 min",
    # The first epoch compiles: from the second on it does not count.
    "epoch 2/4  bound -7.25  20 s  left 40 s",
    "epoch 3/4  bound -7.25  30 s  left 25 s",
    "epoch 4/4  bound -7.25  25 s  left 0 s",
  ]


def test_short_epochs_share_a_line_and_the_last_has_its_own(clock):
  log, told = lines(clock, num_epochs=12)
  epochs(log, clock, 12 * [1.0])
  assert [line.split()[1] for line in told] == ["1/12", "6/12", "11/12", "12/12"]


def test_the_time_of_all_steps_is_told_once_without_compilation(clock):
  log, told = lines(clock, num_epochs=30)
  log.steps(1, 40.0)
  log.steps(10, 2.0)
  assert told == []
  log.steps(20, 4.0)
  log.steps(20, 4.0)
  wanted = "0.2 s a step: 269 more take about 54 s, measurements not counted"
  assert told == [wanted]


def test_a_run_that_goes_on_has_fewer_steps_left(clock):
  log, told = lines(clock, num_epochs=30, title="group 1/2")
  log.restart(200)
  log.steps(1, 40.0)
  log.steps(9, 9.0)
  assert told == [
    "group 1/2: 1 s a step: 90 more take about 90 s, measurements not counted"
  ]


@pytest.mark.parametrize(
  ("seconds", "told"),
  [
    (0.0123, "0.012 s"),
    (9.96, "10 s"),
    (99.4, "99 s"),
    (100, "2 min"),
    (3570, "1 h 0 min"),
    (7500, "2 h 5 min"),
  ],
)
def test_times_are_readable(seconds, told):
  assert counting.interval(seconds) == told


def test_a_count_tells_once_a_minute(clock):
  told = []
  with counting.Lines(100, "AIS", "image", clock, told.append) as count:
    for _ in range(10):
      clock.now += 25.0
      count.update(10)
  assert count.n == 100
  assert told == [
    "AIS: 30 of 100 images, 75 s, left 3 min",
    "AIS: 60 of 100 images, 2 min, left 2 min",
    "AIS: 90 of 100 images, 4 min, left 25 s",
  ]


class Terminal(io.StringIO):
  """A stderr that a person reads."""

  def isatty(self) -> bool:
    return True


@pytest.mark.parametrize("bar", [True, False])
def test_a_terminal_has_a_bar_unless_it_is_not_wanted(bar, monkeypatch):
  stream = Terminal()
  monkeypatch.setattr("sys.stderr", stream)
  log = training_log.opened(3, 10, "digits", bar=bar)
  log.restart(20)
  log.steps(10, 1.0)
  log.epoch(3, 1.0, {"bound": "-7.25"})
  log.close()
  shown = stream.getvalue()
  assert ("100%" in shown) == ("30/30" in shown) == bar
  assert ("bound=-7.25" if bar else "epoch 3/3  bound -7.25") in shown


def test_elsewhere_there_are_lines(monkeypatch):
  stream = io.StringIO()
  monkeypatch.setattr("sys.stderr", stream)
  training_log.opened(3, 10).epoch(1, 2.0, {"best": "5"})
  with counting.counter(5, "decoding", "image") as count:
    count.update(5)
  assert stream.getvalue() == "epoch 1/3  best 5  2 s  left 4 s\n"


def test_an_epoch_tells_its_bound_or_else_its_loss():
  told = training_log.measured({"bound": -7.254, "loss": 1.0}, -7.1, 3)
  assert told == {"bound": "-7.25", "best": "-7.10 (epoch 3)"}
  assert training_log.measured({"loss": 0.5}, -0.5, 2) == {
    "loss": "0.5",
    "best": "epoch 2",
  }
