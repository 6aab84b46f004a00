"""Draws likelihood against pictures on MNIST, from the numbers in `results`.

  python -m scripts.draw_mnist_front --out=results/likelihood/mnist/front.png

A point a model, a line from each model trained by denoising to the one trained on from
it by the lower bound.
"""

import json
import pathlib
from typing import NamedTuple

from absl import flags

from experiments import common
from infusion_jax.drawing import line_plots, plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.evaluation import results

_RESULTS = flags.DEFINE_string("results", "results", "Folder of the numbers.")
_OUT = flags.DEFINE_string(
  "out", "results/likelihood/mnist/front.png", "The picture to write."
)


class Front(NamedTuple):
  """What one q reaches with training.

  Attributes:
    name: written beside its line.
    color: of its line.
    points: in the order of training.
  """

  name: str
  color: str
  points: list["Point"]


class Point(NamedTuple):
  """A trained model.

  Attributes:
    parzen: nats per image.
    bound: nats per image.
    words: its training.
    side: of the point, where the words stand: a key of `_SIDES`.
  """

  parzen: float
  bound: float
  words: str
  side: str


#: Offset of the words in points, horizontal and vertical alignment.
_SIDES = {
  "left": ((-8, 0), "right", "center"),
  "right": ((8, 0), "left", "center"),
  "above": ((0, 8), "left", "bottom"),
  "below": ((0, -8), "right", "top"),
}


def main(argv: list[str]) -> None:
  """Reads the numbers and draws them."""
  del argv
  plots.save(_OUT.value, picture(fronts(pathlib.Path(_RESULTS.value))))
  print(f"wrote {_OUT.value}")


def fronts(folder: pathlib.Path) -> list[Front]:
  """The fronts of the mixture and of interpolation, T = 5 and 15."""
  trained = json.loads((folder / "training/mnist.json").read_text())
  gpu = json.loads((folder / "likelihood/mnist/interpolation.json").read_text())

  def old(name: str, words: str, side: str) -> Point:
    rows = trained[name]
    return Point(rows["parzen"]["value"], rows["bound"]["value"], words, side)

  def new(name: str, words: str, side: str) -> Point:
    rows = gpu[name]["measurements"]
    parzen, bound = (
      rows[f"{metric}, as trained"]["value"] for metric in ("parzen", "bound")
    )
    return Point(parzen, bound, words, side)

  return [
    Front(
      "mixture, T = 5",
      line_plots.PALETTE[0],
      [
        old("mnist_d12", "denoising, 12 epochs", "left"),
        old("mnist_d30_cosine", "30 epochs", "right"),
        old("mnist_d30_l10", "then lower bound, 10", "above"),
        old("mnist_d30_l30", "then 20 more", "below"),
      ],
    ),
    Front(
      "mixture, T = 15",
      line_plots.PALETTE[2],
      [
        new("mnist", "denoising, 10", "left"),
        new("t15_lb", "lower bound", "right"),
      ],
    ),
    Front(
      "interpolation, T = 5",
      line_plots.PALETTE[1],
      [
        new("t5i", "denoising, 20", "below"),
        new("t5i_lb", "then lower bound, 30", "above"),
      ],
    ),
  ]


def picture(found: list[Front]) -> Picture:
  """Bound against Parzen estimate, up and right is better."""
  axes = line_plots.new_axes(
    (7.2, 4.4), "Parzen estimate, nats (pictures)", "lower bound, nats (likelihood)"
  )
  line_plots.set_style(axes, [])
  for front in found:
    places = [(point.parzen, point.bound) for point in front.points]
    axes.plot(*zip(*places, strict=True), "o-", color=front.color, markersize=6)
    for point in front.points:
      offset, ha, va = _SIDES[point.side]
      name = f"{front.name}: " if point is front.points[-1] else ""
      axes.annotate(
        name + point.words,
        (point.parzen, point.bound),
        xytext=offset,
        textcoords="offset points",
        ha=ha,
        va=va,
        color=front.color,
        fontsize=8,
      )
  bound, parzen = (
    results.headline("mnist", name).value for name in ("bound", "parzen")
  )
  axes.axhline(bound, color="0.6", lw=1, ls=":")
  axes.axvline(parzen, color="0.6", lw=1, ls=":")
  axes.annotate("published bound, T = 15", (12, bound + 5), color="0.45", fontsize=8)
  axes.annotate(
    "published Parzen",
    (parzen, 2100),
    xytext=(4, 0),
    textcoords="offset points",
    rotation=270,
    va="top",
    color="0.45",
    fontsize=8,
  )
  axes.set_xlim(10, 340)
  axes.set_ylim(900, 2120)
  return line_plots.rendered(axes.figure)


if __name__ == "__main__":
  common.run(main)
