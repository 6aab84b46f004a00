"""Wall times that can be compared: all contestants in turn, round after round.

A machine's speed changes from minute to minute. Contestants therefore take turns,
and what is quoted is the median over the rounds of the *ratio* within a round.
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tqdm

Work = Callable[[], object]

#: Seconds before a timed call: idle threads of the call before spin that long.
_PAUSE = 0.25


class Times(NamedTuple):
  """Seconds per unit of work.

  Attributes:
    seconds: name of the contestant -> [rounds].
  """

  seconds: dict[str, np.ndarray]

  def median(self, name: str) -> float:
    """Median seconds of a contestant."""
    return float(np.median(self.seconds[name]))

  def ratio(self, slower: str, faster: str) -> float:
    """Median over the rounds of the first one's time over the second one's."""
    return float(np.median(self.seconds[slower] / self.seconds[faster]))


def take_turns(
  contestants: Mapping[str, Work], rounds: int, *, what: str = "", warm: int = 2
) -> Times:
  """Times every contestant once a round.

  Args:
    contestants: name -> work; a call returns when its work is done.
    rounds: how often each is timed.
    what: label of the progress bar.
    warm: untimed calls before, for compilation and caches.

  Returns:
    The times.
  """
  for work in contestants.values():
    for _ in range(warm):
      work()
  seconds: dict[str, list[float]] = {name: [] for name in contestants}
  for _ in tqdm.trange(rounds, desc=what, unit="round"):
    for name, work in contestants.items():
      time.sleep(_PAUSE)
      began = time.perf_counter()
      work()
      seconds[name].append(time.perf_counter() - began)
  return Times({name: np.asarray(found) for name, found in seconds.items()})
