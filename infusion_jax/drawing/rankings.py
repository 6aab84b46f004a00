"""Many runs side by side: curves of which the best stand out, and a ranking in dots."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infusion_jax.drawing.line_plots import (
  PALETTE,
  limits,
  new_axes,
  rendered,
  set_style,
)
from infusion_jax.drawing.tiles import Picture, at_least
from infusion_jax.errors import UserError

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_COLORS = (*PALETTE, "#8C510A")
#: Lines that stand out; the others are grey and have no name.
MOST_NAMED = len(_COLORS)
_GREY = "0.78"
#: Between names, from middle to middle.
_NAME_INCHES = 0.2
_LEADER = {"arrowstyle": "-", "lw": 0.6, "alpha": 0.5, "shrinkA": 1, "shrinkB": 0}


class Band(NamedTuple):
  """One curve, measured once or more.

  Attributes:
    x: [E].
    values: [S, E], a row for each seed; the line is their mean, the band reaches from
      the lowest to the highest.
  """

  x: ArrayLike
  values: ArrayLike


class _Line(NamedTuple):
  x: NDArray[np.float64]
  low: NDArray[np.float64]
  middle: NDArray[np.float64]
  high: NDArray[np.float64]


def ranked_curves(
  bands: Mapping[str, Band],
  xlabel: str,
  ylabel: str,
  title: str = "",
  *,
  clip_low_quantile: float = 0.0,
  size: tuple[float, float] = (7.2, 4.2),
) -> Picture:
  """Draws curves; of those within the picture the first eight stand out.

  Args:
    bands: by label, best first.
    xlabel: under the x axis.
    ylabel: beside the y axis.
    title: above the figure.
    clip_low_quantile: as in `line_plots.curves`.
    size: inches, at 150 dots an inch.

  Returns:
    The picture [H, W, 3]. Names stand at the ends of the lines.

  Raises:
    UserError: no curve, or arrays that do not match.
  """
  lines = _lines(bands)
  axes = new_axes(size, xlabel, ylabel, title)
  ends = [part for line in lines.values() for part in (line.middle, line.high)]
  low, high = limits(ends, clip_low_quantile)
  named = named_lines({label: line.middle for label, line in lines.items()}, low)
  for label in reversed(lines):
    color = _COLORS[named.index(label)] if label in named else _GREY
    _draw(axes, lines[label], color, front=label in named)
  axes.set_ylim(low, high)
  set_style(axes, [line.x for line in lines.values()])
  _name_ends(axes, {label: lines[label] for label in named})
  return rendered(axes.figure)


def compared_curves(
  bands: Mapping[str, Band],
  xlabel: str,
  ylabel: str,
  *,
  own: str = "",
  reference: tuple[str, float] | None = None,
  size: tuple[float, float] = (7.2, 4.8),
) -> Picture:
  """Draws curves over two logarithmic axes; the first eight stand out.

  Args:
    bands: by label, those that matter most first; positive numbers.
    xlabel: under the x axis.
    ylabel: beside the y axis.
    own: the label of the curve that is drawn thick and named in bold.
    reference: name and height of a dashed line.
    size: inches, at 150 dots an inch.

  Returns:
    The picture [H, W, 3]. Names stand at the ends of the lines.

  Raises:
    UserError: no curve, or arrays that do not match.
  """
  lines = _lines(bands)
  axes = new_axes(size, xlabel, ylabel)
  set_style(axes, [line.x for line in lines.values()])
  _set_logarithmic(axes)
  named = list(lines)[:MOST_NAMED]
  for label in reversed(lines):
    color = _COLORS[named.index(label)] if label in named else _GREY
    _draw(axes, lines[label], color, label in named, dots=True, thick=label == own)
  if reference:
    _draw_reference(axes, *reference)
  _name_ends(axes, {label: lines[label] for label in named}, own)
  return rendered(axes.figure)


def named_lines(
  middles: Mapping[str, NDArray[np.float64]], low: float | None
) -> list[str]:
  """The first labels whose lines rise above the lower end of the picture."""
  bottom = -np.inf if low is None else low
  visible = [label for label, middle in middles.items() if np.any(middle > bottom)]
  return visible[:MOST_NAMED]


def _lines(bands: Mapping[str, Band]) -> dict[str, _Line]:
  at_least(1, len(bands), "the number of curves")
  return {label: _line(label, band) for label, band in bands.items()}


def _line(label: str, band: Band) -> _Line:
  x, values = np.asarray(band.x, np.float64), np.asarray(band.values, np.float64)
  if x.ndim != 1 or values.ndim != 2 or values.shape[1] != len(x) or not len(values):
    raise UserError(
      f"curve {label!r} has shapes {x.shape}, {values.shape}; allowed are [E], [S, E]"
    )
  return _Line(x, values.min(axis=0), values.mean(axis=0), values.max(axis=0))


def _draw(
  axes: "Axes",
  line: _Line,
  color: str,
  front: bool,
  *,
  dots: bool = False,
  thick: bool = False,
) -> None:
  order = 4 if thick else 3 if front else 2
  width = 3.0 if thick else 1.7 if front else 1.0
  look = {"marker": "o", "ms": 2.2 * width**0.5} if dots else {}
  axes.plot(line.x, line.middle, color=color, lw=width, zorder=order, **look)
  if front and np.any(line.high > line.low):
    shade = {"color": color, "alpha": 0.15, "lw": 0}
    axes.fill_between(line.x, line.low, line.high, **shade, zorder=order - 0.5)


def _set_logarithmic(axes: "Axes") -> None:
  """Both axes, with plain numbers at 1, 2 and 5 times powers of ten."""
  from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

  axes.set(xscale="log", yscale="log")
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def _draw_reference(axes: "Axes", name: str, height: float) -> None:
  axes.axhline(height, color="0.4", lw=1.0, ls="--", zorder=1)
  place = (0.01, height)
  look = {"color": "0.4", "fontsize": "small", "va": "bottom"}
  axes.text(*place, name, transform=axes.get_yaxis_transform(), **look)


def _name_ends(axes: "Axes", lines: Mapping[str, _Line], bold: str = "") -> None:
  """Names at the right edge, moved apart, each joined to the end of its line."""
  ends = {}
  for label, line in lines.items():
    last = np.flatnonzero(np.isfinite(line.middle))[-1]
    ends[label] = line.x[last], line.middle[last]
  # Limits settle first; then places in the picture do not depend on the scale.
  axes.set_ylim(*axes.get_ylim())
  to_axes = axes.transData + axes.transAxes.inverted()
  heights = [to_axes.transform(end)[1] for end in ends.values()]
  places = spread(heights, _NAME_INCHES / axes.figure.get_figheight())
  for index, (label, end) in enumerate(ends.items()):
    axes.annotate(
      label,
      end,
      (1.03, places[index]),
      textcoords="axes fraction",
      color=_COLORS[index],
      va="center",
      fontsize="small",
      fontweight="bold" if label == bold else "normal",
      annotation_clip=False,
      # From the text's left edge, half as high as it is.
      arrowprops={**_LEADER, "color": _COLORS[index], "relpos": (0.0, 0.5)},
    )


def spread(heights: Sequence[float], gap: float) -> list[float]:
  """Heights in [0, 1] moved apart to at least `gap`, their order kept."""
  order = np.argsort(heights, kind="stable")
  places = np.clip(np.asarray(heights, np.float64)[order], 0.0, 1.0)
  for i in range(1, len(places)):
    places[i] = max(places[i], places[i - 1] + gap)
  top = 1.0
  for i in reversed(range(len(places))):
    places[i] = min(places[i], top)
    top = places[i] - gap
  found = np.empty_like(places)
  found[order] = places
  return list(found)


def dots(
  rows: Mapping[str, Sequence[tuple[float, float]]],
  xlabel: str,
  title: str = "",
  reference: str | None = None,
) -> Picture:
  """Draws one row a label, best on top: a dot with its error for each seed.

  Args:
    rows: label -> values and their standard errors (NaN: none), one a seed.
    xlabel: under the axis.
    title: above the figure.
    reference: the label that the others are compared with; a line through its mean.

  Returns:
    The picture [H, W, 3].

  Raises:
    UserError: no rows.
  """
  from matplotlib.figure import Figure

  at_least(1, len(rows), "the number of rows")
  ranked = ranking(rows)
  figure = Figure(figsize=(7.2, 0.3 * len(ranked) + 1.3), dpi=150, layout="constrained")
  figure.suptitle(title, fontsize="large")
  axes = figure.add_subplot(xlabel=xlabel)
  if reference in rows:
    mean = np.mean([value for value, _ in rows[reference]])
    axes.axvline(mean, color=_COLORS[1], lw=1.0, ls="--", zorder=1)
  for place, label in enumerate(ranked):
    values, errors = np.array(rows[label], np.float64).T
    heights = place + 0.12 * (np.arange(len(values)) - (len(values) - 1) / 2)
    color = _COLORS[1] if label == reference else _COLORS[0]
    axes.errorbar(
      values, heights, xerr=errors, fmt="o", ms=4, lw=1.0, color=color, capsize=2
    )
  axes.set_yticks(range(len(ranked)), ranked)
  axes.invert_yaxis()
  axes.grid(color="0.9", linewidth=0.8)
  axes.spines[["top", "right"]].set_visible(False)
  return rendered(figure)


def ranking(rows: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
  """Labels by the mean of their values, highest first."""
  means = {label: np.mean([value for value, _ in row]) for label, row in rows.items()}
  return sorted(means, key=means.get, reverse=True)
