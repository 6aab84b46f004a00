"""What came out of a target: numbers beside the published ones, as JSON and tables.

OUT/<target>/<scale>/result.json   the numbers, how they came about, and where
OUT/<target>/<scale>/*.png         the pictures
OUT/<target>/<scale>/table.md      the numbers to read
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from infusion_jax.drawing import markdown, plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.errors import UserError
from infusion_jax.likelihood import Gap
from infusion_jax.storage import files

FORMAT_VERSION = 1
RESULT_FILE = "result.json"
TABLE_FILE = "table.md"


@dataclasses.dataclass(frozen=True)
class Number:
  """One line of a table: ours beside the published one.

  Attributes:
    name: what was measured.
    value: ours; None: not measured.
    error: standard error over images, or None.
    deviation: over repetitions, or None.
    published: the thesis's value, or None.
    published_error: its error, or None.
    protocol: how ours was measured, in words.
    told: the verdict where it is not a comparison of two values.
    peer: whether the published value is another method's, there for comparison.
  """

  name: str
  value: float | None = None
  error: float | None = None
  deviation: float | None = None
  published: float | None = None
  published_error: float | None = None
  protocol: str = ""
  told: str = ""
  peer: bool = False

  @classmethod
  def read(cls, entry: Mapping[str, Any]) -> "Number":
    """The number that `as_json` wrote; its verdict is made anew from the values."""
    names = [field.name for field in dataclasses.fields(cls)]
    number = cls(**{name: entry[name] for name in names if name in entry})
    verdict = entry.get("verdict", "")
    if verdict in _VERDICTS or verdict.startswith("within"):
      return number
    return dataclasses.replace(number, told=verdict)

  @property
  def gap(self) -> Gap | None:
    """How far ours is above the published value."""
    if self.value is None or self.published is None or self.peer:
      return None
    return Gap.between(self.value, self.error, self.published, self.published_error)

  @property
  def verdict(self) -> str:
    """How ours compares with the published value, in a word or two."""
    if self.told:
      return self.told
    if self.peer:
      return "another method"
    if self.value is None:
      return "not measured"
    return "nothing published" if self.gap is None else self.gap.verdict


#: Verdicts that follow from the values; older files have the last two.
_VERDICTS = (
  *("above", "below", "not measured", "nothing published", "another method"),
  *("reached", "missed"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
  """What a layout makes of the models.

  Attributes:
    numbers: the lines of the table, in order.
    pictures: by name of their file.
    captions: of the pictures, by the same names.
    remarks: sentences to stand beneath the table.
  """

  numbers: Sequence[Number] = ()
  pictures: Mapping[str, Picture] = dataclasses.field(default_factory=dict)
  captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  remarks: Sequence[str] = ()


def place(out: pathlib.Path, target: str, scale: str) -> pathlib.Path:
  """The folder of a target's results."""
  return out / target / scale


def read(out: pathlib.Path, target: str, scale: str) -> dict[str, Any] | None:
  """The result of a target, None if there is none or a picture of it is gone.

  Raises:
    UserError: the file is damaged, or of a later version.
  """
  folder = place(out, target, scale)
  path = folder / RESULT_FILE
  if not path.exists():
    return None
  try:
    result = files.read_json(path)
    version, pictures = result["format_version"], result["pictures"]
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path} is not a result; move it away to make it anew") from error
  if version != FORMAT_VERSION:
    raise UserError(
      f"{path} has format version {version}; this version of infusion_jax reads"
      f" {FORMAT_VERSION}"
    )
  if not all((folder / name).exists() for name in pictures):
    return None
  numbers = [as_json(Number.read(number)) for number in result["numbers"]]
  return {**result, "numbers": numbers}


def renew(out: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Writes a result as this version tells it: the same values, gaps and verdicts anew.

  Raises:
    UserError: a file cannot be written.
  """
  folder = place(out, result["target"], result["scale"])
  files.save_bytes(folder / TABLE_FILE, page(result).encode())
  files.write_json(folder / RESULT_FILE, result)


def write(
  out: pathlib.Path, head: Mapping[str, Any], outcome: Outcome, tail: Mapping[str, Any]
) -> dict[str, Any]:
  """Writes pictures and tables, and last of all the result that says they are there.

  Args:
    out: the folder of all results.
    head: what the result begins with; "target", "title" and "scale" are among it.
    outcome: what was measured and drawn.
    tail: what the result ends with.

  Returns:
    The result.

  Raises:
    UserError: a file cannot be written.
  """
  folder = place(out, head["target"], head["scale"])
  result = {
    "format_version": FORMAT_VERSION,
    **head,
    "numbers": [as_json(number) for number in outcome.numbers],
    "remarks": list(outcome.remarks),
    "pictures": {name: outcome.captions.get(name, "") for name in outcome.pictures},
    **tail,
  }
  for name, picture in outcome.pictures.items():
    plots.save(folder / name, picture)
  renew(out, result)
  return result


def as_json(number: Number) -> dict[str, Any]:
  """A number with its gap and verdict, without what says nothing."""
  values = dataclasses.asdict(number)
  del values["told"]
  gap = number.gap or Gap(None, None)
  values |= {"gap": gap.value, "gap_error": gap.error, "verdict": number.verdict}
  return {key: value for key, value in values.items() if not _says_nothing(value)}


def _says_nothing(value: object) -> bool:
  # Keeps zeros, which equal False.
  return value is None or value is False or value == ""


def page(result: Mapping[str, Any]) -> str:
  """A result as Markdown: its title, notes, table and remarks."""
  parts = [f"# {result['title']}: {result['about']}", *notes(result)]
  if result["numbers"]:
    parts.append(table(result["numbers"]))
  return "\n\n".join([*parts, *result["remarks"]]) + "\n"


def notes(result: Mapping[str, Any]) -> list[str]:
  """What a reader must know before the numbers, a paragraph each."""
  return [f"**{note}.**" for note in result["notes"]]


def table(numbers: Iterable[Mapping[str, Any]]) -> str:
  """Numbers beside the published ones as a Markdown table."""
  headers = ["what", "published", "ours", "gap", "verdict", "protocol"]
  return markdown.table(
    headers,
    [
      [
        number["name"],
        _spread(number.get("published"), number.get("published_error")),
        _ours(number),
        told_gap(number) or "-",
        number["verdict"],
        number.get("protocol", "-"),
      ]
      for number in numbers
    ],
  )


def _ours(number: Mapping[str, Any]) -> str:
  # The thesis gives the deviation over repetitions; images differ much more.
  text = _spread(number.get("value"), number.get("deviation"))
  error = number.get("error")
  return text if error is None else f"{text} (images: ±{error:.2f})"


def _spread(value: float | None, error: float | None) -> str:
  if value is None:
    return "-"
  return f"{value:.6g}" if error is None else f"{value:.2f} ± {error:.2f}"


def told_gap(number: Mapping[str, Any]) -> str:
  """The gap of a number that `as_json` made, with its error; empty without one."""
  return str(Gap(number["gap"], number.get("gap_error"))) if "gap" in number else ""
