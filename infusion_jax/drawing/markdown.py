"""Tables as Markdown text."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from infusion_jax.drawing.tiles import at_least, check_count

_NUMBER = re.compile(r"[-+−]?[\d.,]*\d\s*([±(%].*)?|[-–—]?|nan|[-−]?inf")


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """The table as Markdown text, without a newline at its end."""
  columns = []
  for cells in _columns(headers, rows):
    cells = [cell.replace("|", r"\|") for cell in cells]
    right, width = _is_numeric(cells[1:]), max(3, *map(len, cells))
    cells = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    columns.append([cells[0], "-" * (width - right) + ":" * right, *cells[1:]])
  return "\n".join(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True))


def _columns(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[list[str]]:
  at_least(1, len(headers), "the number of headers")
  for index, row in enumerate(rows):
    check_count(row, len(headers), f"row {index}")
  return [
    [_cell(item) for item in column] for column in zip(headers, *rows, strict=True)
  ]


def _cell(item: Any) -> str:
  floating = isinstance(item, float | np.floating)
  return f"{item:.6g}" if floating else " ".join(str(item).split())


def _is_numeric(cells: Sequence[str]) -> bool:
  return any(cells) and all(_NUMBER.fullmatch(cell) for cell in cells)
