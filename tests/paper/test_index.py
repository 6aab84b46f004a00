"""The page of results is made of the JSON files alone."""

from infusion_jax.paper import index, records
from infusion_jax.paper.records import Number, Outcome
from infusion_jax.paper.targets import BOOK

TAIL = {
  "provenance": {
    "command": "python -m experiments.reproduce --target=figure_3_4",
    "commit": "0123456789ab",
    "device": "cpu: cpu",
    "num_devices": 2,
    "versions": {"python": "3.11", "jax": "0.10", "numpy": "2"},
  },
  "seconds": {"training": 600.0, "measuring": 12.0},
}


def result(out, name="figure_3_4", scale="small", value=200.0):
  target = BOOK.targets[name]
  head = {
    "target": name,
    "title": target.title,
    "about": target.about,
    "scale": scale,
    "identity": "x",
    "notes": [f"{scale} scale: 3 epochs"],
  }
  number = Number("Infusion", value, published=312.0)
  records.write(out, head, Outcome([number], remarks=["A remark."]), TAIL)


def test_without_results_everything_is_not_measured(tmp_path):
  text = index.write(tmp_path, BOOK).read_text()
  for target in BOOK.targets.values():
    assert f"## {target.title}: {target.about}\n" in text
  overview = [line for line in text.splitlines() if line.startswith("| [")]
  assert len(overview) == len(BOOK.targets)
  assert all(line.count("not measured") == 3 for line in overview)


def test_a_result_has_its_numbers_notes_and_origin(tmp_path):
  result(tmp_path)
  text = index.write(tmp_path, BOOK).read_text()
  (line,) = [line for line in text.splitlines() if line.startswith("| [Figure 3.4]")]
  assert "1 below" in line and line.count("not measured") == 2
  for words in (
    "| Infusion |       312 |  200 | -112 | below   |",
    "**small scale: 3 epochs.**",
    "A remark.",
    "commit 0123456789ab, cpu: cpu (2 devices), python 3.11, jax 0.10; 10 min of",
    "(figure_3_4/small/result.json)",
  ):
    assert words in text, words


def test_a_number_reached_at_full_scale_is_shown_as_such(tmp_path):
  result(tmp_path, scale="full", value=313.0)
  text = index.write(tmp_path, BOOK).read_text()
  (line,) = [line for line in text.splitlines() if line.startswith("| [Figure 3.4]")]
  assert "1 above" in line and "below" not in line


def test_a_smoke_run_is_no_result(tmp_path):
  result(tmp_path, scale="smoke")
  assert "3 epochs" not in index.write(tmp_path, BOOK).read_text()


def test_links_lead_to_sections(tmp_path):
  text = index.page(tmp_path, list(BOOK.targets.values()))
  assert "(#figure-a2-infused-and-generated-chains-constant-against" in text
