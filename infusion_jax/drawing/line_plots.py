"""Curves: named lines over a common x axis, as one picture."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infusion_jax.drawing.tiles import Picture, at_least
from infusion_jax.errors import UserError

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Line = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]

#: Okabe and Ito's colours without yellow: distinct with any colour vision.
PALETTE = (
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#56B4E9",
  "#E69F00",
  "#000000",
)
#: Lines named inside the axes; more than these are named beside them.
_MOST_INSIDE = 6


def curves(
  series: Mapping[str, Line],
  xlabel: str,
  ylabel: str,
  title: str = "",
  secondary: Mapping[str, Line] | None = None,
  secondary_label: str = "",
  ordered: bool | None = None,
  ylim: tuple[float | None, float | None] = (None, None),
  clip_low_quantile: float = 0.0,
  size: tuple[float, float] = (6.4, 4.0),
  logarithmic: str = "",
) -> Picture:
  """Draws named lines over a common x axis.

  Args:
    series: label -> (x, y) or (x, y, error), 1-D; non-finite points are gaps.
    xlabel: under the x axis.
    ylabel: beside the left axis.
    title: above the figure.
    secondary: dashed lines that belong to an axis on the right.
    secondary_label: beside the right axis.
    ordered: colours run from dark to light, for lines that have an order; by
      default for more lines than there are distinct colours.
    ylim: (low, high) of the left axis; None leaves the end free.
    clip_low_quantile: in [0, 1); the left axis starts at this quantile of its
      values, so that very negative early ones do not flatten the rest.
    logarithmic: the axes that are so: "x", "y" (the left one) or "xy".
    size: inches, at 150 dots an inch; larger where a long legend needs the room.

  Returns:
    The picture, [150 · size[1], 150 · size[0], 3] or larger.

  Raises:
    UserError: no series, arrays that do not match, or a bad quantile.
  """
  left = {label: _points(label, line) for label, line in series.items()}
  right = {label: _points(label, line) for label, line in (secondary or {}).items()}
  at_least(1, len(left), "the number of lines")
  colors = _line_colors(len(left) + len(right), ordered)
  size = _with_legend(size, [*left, *right])
  axes = new_axes(size, xlabel, ylabel, title)
  handles = _draw_lines(axes, left, colors, "-")
  set_style(axes, [line.x for line in (*left.values(), *right.values())])
  # The scale comes before the limits, or those of a linear axis would stay.
  for axis in logarithmic:
    axes.set(**{f"{axis}scale": "log"})
  axes.set_ylim(*limits([points.y for points in left.values()], clip_low_quantile))
  axes.set_ylim(*ylim)
  if right:
    twin = axes.twinx()
    twin.set_ylabel(secondary_label)
    twin.spines["top"].set_visible(False)
    handles += _draw_lines(twin, right, colors[len(left) :], "--", " (right)")
  _add_legend(axes.figure, handles, outside=bool(right))
  return rendered(axes.figure)


def new_axes(
  size: tuple[float, float], xlabel: str, ylabel: str, title: str = ""
) -> "Axes":
  """The axes of a new figure of so many inches, at 150 dots an inch."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=size, dpi=150, layout="constrained")
  figure.suptitle(title, fontsize="large")
  return figure.add_subplot(xlabel=xlabel, ylabel=ylabel)


def rendered(figure: "Figure") -> Picture:
  """The pixels of a figure [H, W, 3]."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.array(canvas.buffer_rgba())[..., :3].copy()


class _Points(NamedTuple):
  x: NDArray[np.float64]
  y: NDArray[np.float64]
  error: NDArray[np.float64] | None = None


def _points(label: str, line: Line) -> _Points:
  arrays = [np.asarray(values, np.float64) for values in line]
  shapes = [a.shape for a in arrays]
  if len(arrays) not in (2, 3) or len(set(shapes)) > 1 or arrays[0].ndim != 1:
    raise UserError(
      f"line {label!r} has shapes {shapes}; x, y, error are 1-D and equal."
    )
  return _Points(*arrays)


def _line_colors(count: int, ordered: bool | None) -> list[Any]:
  import matplotlib

  if ordered or (ordered is None and count > len(PALETTE)):
    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, count)))
  return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _draw_lines(
  axes: "Axes",
  lines: Mapping[str, _Points],
  colors: Sequence[Any],
  style: str,
  suffix: str = "",
) -> list[Any]:
  handles = []
  for (label, points), color in zip(lines.items(), colors, strict=False):
    look = {"color": color, "ls": style, "lw": 1.6, "capsize": 2.5, "markersize": 3.5}
    marker = "o" if len(points.x) <= 30 else ""
    handles.append(axes.errorbar(*points, label=label + suffix, marker=marker, **look))
  return handles


def limits(
  values: Sequence[NDArray[np.float64]], quantile: float
) -> tuple[float | None, float | None]:
  """The ends of an axis that starts at a quantile of the values."""
  if not 0 <= quantile < 1:
    raise UserError(f"clip_low_quantile is {quantile}; it must lie in [0, 1).")
  flat = np.concatenate(values)
  flat = flat[np.isfinite(flat)]
  if not quantile or not flat.size:
    return None, None
  low, high = np.quantile(flat, quantile), flat.max()
  margin = 0.05 * (high - low)
  return (low - margin, high + margin) if margin else (None, None)


def _with_legend(
  size: tuple[float, float], labels: Sequence[str]
) -> tuple[float, float]:
  """The size in inches at which a legend beside the axes leaves them their room."""
  if len(labels) <= _MOST_INSIDE:
    return size
  width, height = size
  longest = max(map(len, labels))
  return width + 0.075 * max(longest - 12, 0), max(height, 0.22 * len(labels) + 0.6)


def _add_legend(figure: "Figure", handles: Sequence[Any], outside: bool) -> None:
  if len(handles) > _MOST_INSIDE:
    figure.legend(handles=handles, loc="outside right center", frameon=False)
  elif outside:
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
  elif len(handles) > 1:
    figure.axes[0].legend(handles=handles)


def set_style(axes: "Axes", places: Sequence[NDArray[np.float64]]) -> None:
  """Grid and spines; ticks at whole numbers where all places x are whole."""
  axes.grid(color="0.9", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.spines[["top", "right"]].set_visible(False)
  whole = all(np.all(x == np.round(x)) for x in places)
  axes.xaxis.get_major_locator().set_params(integer=whole)
