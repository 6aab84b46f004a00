"""Numbers beside the published ones: verdicts, tables, files."""

import json

import numpy as np
import pytest

from infusion_jax.errors import UserError
from infusion_jax.paper import records
from infusion_jax.paper.records import Number, Outcome
from infusion_jax.storage import files

HEAD = {
  "target": "table_9",
  "title": "Table 9",
  "about": "nothing",
  "scale": "small",
  "identity": "abc",
  "notes": ["small scale: 1 epoch"],
}


@pytest.mark.parametrize(
  ("number", "verdict", "gap"),
  [
    (Number("a", 10.0, published=9.0), "above", (1.0, None)),
    (Number("a", 9.0, published=9.0), "within the error", (0.0, None)),
    (Number("a", 8.0, published=9.0), "below", (-1.0, None)),
    (Number("a", 10.0, error=0.5, published=9.0), "within the error", (1.0, 0.5)),
    (Number("a", 10.0, error=0.49, published=9.0), "above", (1.0, 0.49)),
    (Number("a", 8.0, error=0.49, published=9.0), "below", (-1.0, 0.49)),
    # Both errors count, and the deviation over repetitions is none of them.
    (
      Number("a", 9.9, 0.3, deviation=9.0, published=9.0, published_error=0.4),
      "within the error",
      (0.9, 0.5),
    ),
    (Number("a", published=9.0), "not measured", None),
    (Number("a", 8.0), "nothing published", None),
    (Number("VAE", published=9.0, peer=True), "another method", None),
    (
      Number("a", 8.0, published=9.0, told="its neighbour"),
      "its neighbour",
      (-1, None),
    ),
  ],
)
def test_verdicts(number, verdict, gap):
  assert number.verdict == verdict
  assert number.gap == (gap if gap is None else pytest.approx(gap))


@pytest.mark.parametrize(
  ("stored", "verdict"),
  [
    (
      {"value": 9.5, "error": 1.0, "published": 9.0, "verdict": "reached"},
      "within the",
    ),
    ({"value": 7.0, "error": 0.5, "published": 9.0, "verdict": "missed"}, "below"),
    ({"value": -490.0, "published": -479.0, "verdict": "within 3%"}, "below"),
    ({"value": 0.1, "published": 0.1, "verdict": "best 0.1, as published"}, "best 0.1"),
    ({"published": 9.0, "peer": True, "verdict": "another method"}, "another method"),
  ],
)
def test_results_made_before_get_the_verdict_of_today(tmp_path, stored, verdict):
  number = {"name": "a", "gap": 0.5, "tolerance": 0.03, **stored}
  path = tmp_path / "table_9/small/result.json"
  path.parent.mkdir(parents=True)
  old = {"format_version": 1, **HEAD, "numbers": [number], "remarks": []}
  path.write_text(json.dumps({**old, "pictures": {}}))
  result = records.read(tmp_path, "table_9", "small")
  (found,) = result["numbers"]
  assert found["verdict"].startswith(verdict)
  records.renew(tmp_path, result)
  assert records.read(tmp_path, "table_9", "small") == result
  assert files.read_json(path) == result
  assert f"| {found['verdict']} " in (path.parent / "table.md").read_text()


def write(out, *numbers, **pictures):
  outcome = Outcome(numbers, pictures={f"{n}.png": p for n, p in pictures.items()})
  return records.write(out, HEAD, outcome, {"provenance": {"commit": "c"}})


def test_a_number_below_is_printed_as_below_with_its_gap_and_error(tmp_path):
  missed = Number("bound", 900.5, error=4.0, published=1350.6, protocol="10 images")
  write(tmp_path, missed, Number("IS", published=1836.27, published_error=0.55))
  text = (tmp_path / "table_9/small/table.md").read_text()
  (line,) = [line for line in text.splitlines() if line.startswith("| bound")]
  cells = [cell.strip() for cell in line.strip("|").split("|")]
  assert cells == [
    "bound",
    "1350.6",
    "900.5 (images: ±4.00)",
    "-450.10 ± 4.00",
    "below",
    "10 images",
  ]
  assert "not measured" in text and "1836.27 ± 0.55" in text
  assert "**small scale: 1 epoch.**" in text


def test_a_result_is_read_back(tmp_path):
  picture = np.zeros((4, 5, 3), np.uint8)
  result = write(tmp_path, Number("bound", 2.0, published=1.0), strip=picture)
  assert records.read(tmp_path, "table_9", "small") == result
  assert result["numbers"] == [
    {"name": "bound", "value": 2.0, "published": 1.0, "gap": 1.0, "verdict": "above"}
  ]
  assert records.read(tmp_path, "table_9", "full") is None
  (tmp_path / "table_9/small/strip.png").unlink()
  assert records.read(tmp_path, "table_9", "small") is None


def test_zero_is_a_number_like_any_other(tmp_path):
  result = write(tmp_path, Number("best rate", 0.0, published=0.1))
  (number,) = result["numbers"]
  assert (number["value"], number["gap"]) == (0.0, -0.1)
  assert "|    0 | -0.1 |" in (tmp_path / "table_9/small/table.md").read_text()


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"format_version": 9})])
def test_damaged_results_are_named(tmp_path, text):
  path = tmp_path / "table_9/small/result.json"
  path.parent.mkdir(parents=True)
  path.write_text(text)
  with pytest.raises(UserError, match="result.json is not a result"):
    records.read(tmp_path, "table_9", "small")
  path.write_text(json.dumps({"format_version": 9, "pictures": {}}))
  with pytest.raises(UserError, match="format version 9"):
    records.read(tmp_path, "table_9", "small")
