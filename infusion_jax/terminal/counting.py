"""How much of an amount is done: a bar on a terminal, a line a minute elsewhere."""

import sys
import time
import types
from collections.abc import Callable
from typing import Self

import tqdm

#: Seconds between two lines.
_EVERY = 60.0


def counter(
  total: int, what: str, unit: str, *, shown: bool = True
) -> "tqdm.tqdm | Lines":
  """A bar where stderr is a terminal and bars are wanted, else lines.

  Args:
    total: how much there is to do.
    what: is done, such as "decoding pictures".
    unit: of the amounts, such as "image".
    shown: whether bars are wanted.

  Returns:
    A context manager with `update(amount)` and the amount done so far, `n`.
  """
  if shown and on_terminal():
    return tqdm.tqdm(total=total, desc=what, unit=unit)
  return Lines(total, what, unit)


def on_terminal() -> bool:
  """Whether a person reads stderr as it comes."""
  return sys.stderr.isatty()


def say(text: str) -> None:
  """One line to stderr, at once."""
  print(text, file=sys.stderr, flush=True)


def interval(seconds: float) -> str:
  """A time as "9 s", "3 min" or "2 h 5 min"."""
  if seconds < 99.5:
    return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  hours, rest = divmod(minutes, 60)
  return f"{hours} h {rest} min" if hours else f"{minutes} min"


class Lines:
  """Says now and then how far a work is; work of less than a minute says nothing.

  Attributes:
    n: the amount done.
  """

  def __init__(
    self,
    total: int,
    what: str,
    unit: str,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[str], None] = say,
  ) -> None:
    self.n = 0
    self._total, self._what, self._unit = total, what, unit
    self._clock, self._tell = clock, tell
    self._began = self._told = clock()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: types.TracebackType | BaseException | None) -> None:
    """Has nothing to close."""

  def update(self, amount: int = 1) -> None:
    """Adds to the amount done."""
    self.n += amount
    now = self._clock()
    if not self.n or now - self._told < _EVERY:
      return
    self._told = now
    left = (now - self._began) * (self._total - self.n) / self.n
    self._tell(
      f"{self._what}: {self.n} of {self._total} {self._unit}s,"
      f" {interval(now - self._began)}, left {interval(left)}"
    )
