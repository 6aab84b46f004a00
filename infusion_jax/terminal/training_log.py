"""How a training goes: a bar in steps on a terminal, a line an epoch elsewhere."""

import time
from collections.abc import Callable, Mapping

import tqdm

from infusion_jax.terminal.counting import interval, on_terminal, say

#: Seconds between two lines: epochs that take less share one.
_EVERY = 5.0
#: Seconds of steps from which the time of all is told, compilation left out.
_LOOK = 5.0


def measured(
  validation: Mapping[str, float], best_bound: float, best_epoch: int
) -> dict[str, str]:
  """What to tell of an epoch: its bound and the best; where there is none, its loss."""
  if "bound" not in validation:
    return {"loss": f"{float(validation['loss']):.4g}", "best": f"epoch {best_epoch}"}
  best = f"{best_bound:.2f} (epoch {best_epoch})"
  return {"bound": f"{float(validation['bound']):.2f}", "best": best}


class TrainingLog:
  """What may be told of a training; this one tells nothing.

  Of the processes of a run one tells, the others are as silent as this.
  """

  def restart(self, step: int) -> None:
    """Sets the steps done."""

  def steps(self, count: int, seconds: float) -> None:
    """Takes note of so many more steps and the time that they took."""

  def epoch(self, epoch: int, seconds: float, values: Mapping[str, str]) -> None:
    """Takes note of an epoch that has ended, with what was measured after it."""

  def doing(self, what: str) -> None:
    """Names what is done besides steps; empty: steps again."""

  def say(self, text: str) -> None:
    """Tells something else."""

  def close(self) -> None:
    """Ends."""


def opened(
  num_epochs: int, per_epoch: int, title: str = "", *, bar: bool = True
) -> TrainingLog:
  """A bar where stderr is a terminal and bars are wanted, else lines."""
  if bar and on_terminal():
    return Bar(num_epochs * per_epoch, title)
  return Lines(num_epochs, per_epoch, title)


class Bar(TrainingLog):
  """A progress bar in steps."""

  def __init__(self, total: int, title: str = "") -> None:
    self._title = title
    self._bar = tqdm.tqdm(total=total, unit="step", desc=title or None)

  def restart(self, step: int) -> None:
    """Sets the steps done; those of earlier launches do not count for the speed."""
    self._bar.reset()
    self._bar.n = self._bar.initial = self._bar.last_print_n = step
    self._bar.refresh()

  def steps(self, count: int, seconds: float) -> None:
    """Moves on."""
    del seconds
    self._bar.update(count)

  def epoch(self, epoch: int, seconds: float, values: Mapping[str, str]) -> None:
    """Shows the last values beside the bar."""
    del seconds
    self._bar.set_postfix({"epoch": epoch, **values})

  def doing(self, what: str) -> None:
    """Shows it before the bar."""
    self._bar.set_description(what or self._title)

  def say(self, text: str) -> None:
    """A line above the bar."""
    self._bar.write(text, file=self._bar.fp)

  def close(self) -> None:
    """Leaves the bar as it is."""
    self._bar.close()


class Lines(TrainingLog):
  """A line an epoch, with the time left; first, what the steps alone will take."""

  def __init__(
    self,
    num_epochs: int,
    per_epoch: int,
    title: str = "",
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[str], None] = say,
  ) -> None:
    self._num_epochs, self._per_epoch = num_epochs, per_epoch
    self._title, self._clock, self._tell = title, clock, tell
    self._told_at = float("-inf")
    self.restart(0)

  def restart(self, step: int) -> None:
    """Begins to measure times anew."""
    self._left = self._num_epochs * self._per_epoch - step
    self._measured: tuple[int, float] | None = None
    self._epoch_seconds: list[float] = []

  def steps(self, count: int, seconds: float) -> None:
    """Tells, once, what all steps will take."""
    self._left -= count
    if self._measured is None:  # These steps were compiled first.
      self._measured = (0, 0.0)
      return
    before, (done, took) = self._measured[1], self._measured
    done, took = done + count, took + seconds
    self._measured = (done, took)
    if before < _LOOK <= took:
      pace = took / done
      self.say(
        f"{interval(pace)} a step: {self._left:,} more take about"
        f" {interval(pace * self._left)}, measurements not counted"
      )

  def epoch(self, epoch: int, seconds: float, values: Mapping[str, str]) -> None:
    """Tells of it, unless the last line is but a moment old."""
    # The first epoch of a launch compiles, and tells little about the others.
    self._epoch_seconds = [*self._epoch_seconds, seconds][-9:]
    counted = self._epoch_seconds[1:] or self._epoch_seconds
    now, last = self._clock(), epoch == self._num_epochs
    if now - self._told_at < _EVERY and not last:
      return
    self._told_at = now
    left = sum(counted) / len(counted) * (self._num_epochs - epoch)
    parts = [f"epoch {epoch}/{self._num_epochs}"]
    parts += [f"{name} {value}" for name, value in values.items()]
    parts += [interval(seconds), f"left {interval(left)}"]
    self.say("  ".join(parts))

  def say(self, text: str) -> None:
    """A line, with the title of the work before it."""
    self._tell(f"{self._title}: {text}" if self._title else text)
