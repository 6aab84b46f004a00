"""What every table and figure is made from."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from infusion_jax.drawing import tiles
from infusion_jax.drawing.tiles import Picture
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.paper.descriptions import Options, Target
from infusion_jax.paper.runs import Table, Trained


@dataclasses.dataclass(frozen=True, eq=False)
class Materials:
  """What a layout works with.

  Attributes:
    target: what is to be made.
    options: of the layout.
    trained: the target's models and sweeps, in its order.
    notes: what must stand on every picture, by run.
    inception: a file of Inception-v3's weights, or "".
    progress: whether to show progress bars on stderr.
    asked: whether to stop; looked at whenever a measurement has come further.
  """

  target: Target
  options: Options
  trained: Sequence[Trained | Table]
  notes: Sequence[str]
  inception: str = ""
  progress: bool = True
  asked: Callable[[], bool] = lambda: False

  def measured(
    self, trained: Trained, metric: str, protocol: Protocol
  ) -> list[dict[str, Any]]:
    """What a metric finds, measured once for every model and protocol.

    Raises:
      signals.Stopped: see `Session.measure`.
    """
    return Session(
      trained.model,
      trained.dataset,
      protocol,
      trained.folder,
      self.progress,
      self.asked,
    ).measure(metric)

  def titled(self, picture: Picture, about: str = "") -> Picture:
    """A picture under a line of what it is, and lines of what to know of it."""
    notes = self.notes
    if len(self.trained) > 1:
      named = zip(self.trained, notes, strict=True)
      notes = [f"{trained.run.title}: {note}" for trained, note in named if note]
    return titled(picture, f"{self.target.title}: {about or self.target.about}", notes)


def titled(picture: Picture, title: str, notes: Sequence[str] = ()) -> Picture:
  """Puts a bold title and notes above a picture [H', W', 3], wrapped to its width."""
  size = tiles.text_size(picture.shape[1])
  # Small pictures are widened rather than their titles cut to slivers.
  room = max(picture.shape[1] - 2 * tiles.MARGIN, 30 * size)
  lines = [tiles.draw_text(tiles.wrap(title, 0.9 * room, size), size, True, 0.0)]
  lines += [
    tiles.draw_text(tiles.wrap(note, room, size), size, align=0.0) for note in notes
  ]
  head = tiles.add_margin(tiles.join(lines, axis=0, gap=2), 6, tiles.MARGIN)
  return tiles.join([head, picture], axis=0, gap=0)
