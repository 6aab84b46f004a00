"""What other methods reach here, beside what the thesis quotes of them."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from infusion_jax.comparison import standings
from infusion_jax.comparison.judge import REAL
from infusion_jax.comparison.rules import Rules
from infusion_jax.config import build
from infusion_jax.drawing import markdown
from infusion_jax.peers import METHODS
from infusion_jax.storage import files, published_numbers

#: The data set of the quoted numbers.
_DATA = "mnist"
#: Titles of methods, and the lines about them in table 3.1 and figure 3.4.
_ANNEALED = {
  METHODS[name].title: f"{METHODS[name].title}-50 (AIS)"
  for name in ("vae", "gan", "gmmn")
}
_PARZEN = {
  "infusion": "Infusion",
  METHODS["gsn"].title: "GSN",
  METHODS["gan"].title: "GAN",
  METHODS["gmmn"].title: "GMMN+AE",
  METHODS["ddpm"].title: "Diffusion",
}

_HEAD = """## Other methods, measured here

On MNIST, by `experiments.compare`: [`compare`](compare/README.md) has what they were
trained with, their pictures and a verdict. Networks and budgets are not those of the
quoted numbers. Errors are over test images, here and in what is quoted of other
methods; the thesis's own in table 3.1 are over repetitions."""

_HEADERS = ("method", "hidden layers", "what", "quoted", "here", "protocol")


class _Measured(NamedTuple):
  """A row: nats, and what they are."""

  method: str
  what: str
  value: float
  error: float
  protocol: str


def section(out: pathlib.Path) -> list[str]:
  """The section about the comparisons in a folder of results; empty without any.

  Raises:
    UserError: the file of a comparison is damaged.
  """
  rows = [
    cells
    for path in sorted(out.glob(f"compare/*/{standings.RESULT_FILE}"))
    for cells in _of_comparison(files.read_json(path))
  ]
  return [_HEAD, markdown.table(_HEADERS, rows)] if rows else []


def _of_comparison(facts: Mapping[str, Any]) -> Iterator[list[str]]:
  if facts["config"]["data"]["name"] != _DATA:
    return
  layers = "-".join(str(size) for size in facts["config"]["model"]["hidden_sizes"])
  for row in _measured(facts):
    here = f"{row.value:.1f} ± {row.error:.1f}"
    yield [row.method, layers, row.what, _quoted(row), here, row.protocol]


def _measured(facts: Mapping[str, Any]) -> Iterator[_Measured]:
  rules = build(Rules, facts["rules"], "rules")
  for row in facts["rows"]:
    if "likelihood" in row:
      protocol = f"{row['images']} images"
      if "temperatures" in row:
        protocol += (
          f", {row['temperatures']:,} temperatures, variance {row['variance']:.3g},"
          f" sandwich gap {row['gap']:.1f}"
        )
      name, what = row["method"], row["likelihood"]
      yield _Measured(name, what, row["value"], row["error"], protocol)
  for row in standings.main_rows(facts["rows"], rules):
    if row["method"] != REAL:
      name = f"{row['method']}, {row['sampler']}"
      calls = f"{row['calls']} call{'s' if row['calls'] > 1 else ''}"
      protocol = f"{row['samples']:,} samples of {calls}"
      protocol += f", sigma {row['sigma']:.3g}"
      yield _Measured(name, "Parzen", row["parzen"], row["parzen_error"], protocol)


def _quoted(row: _Measured) -> str:
  """What the thesis quotes of the same kind, and where."""
  method = row.method.rsplit(", ", 1)[0] if row.what == "Parzen" else row.method
  if row.what == "Parzen" and method in _PARZEN:
    value, error = published_numbers.numbers("figure_3_4_mnist_parzen", _PARZEN[method])
    return f"{value:.0f} ± {error:g} (figure 3.4)"
  if row.what == "AIS" and method in _ANNEALED:
    table = "table_3_1_mnist_log_likelihood"
    value, error = published_numbers.numbers(table, _ANNEALED[method])[0]
    return f"{value:.1f} ± {error:.1f} (table 3.1)"
  return "-"
