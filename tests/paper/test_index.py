"""The page of results is made of the JSON files alone."""

import dataclasses

from infusion_jax.comparison.rules import Rules
from infusion_jax.paper import index, records
from infusion_jax.paper.records import Number, Outcome
from infusion_jax.paper.targets import BOOK
from infusion_jax.storage import files

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


ROWS = [
  {"method": "VAE", "likelihood": "AIS", "value": 950.0, "error": 12.0, "images": 16}
  | {"temperatures": 1000, "variance": 0.005, "gap": 2.5},
  {"method": "VAE", "likelihood": "bound", "value": 800.0, "error": 9.0, "images": 200},
  {"method": "GSN, walkback", "sampler": "walk", "calls": 15, "samples": 2000}
  | {"parzen": 199.5, "parzen_error": 1.2, "sigma": 0.17},
]


def comparison(out, dataset):
  path = out / "compare" / dataset / "comparison.json"
  path.parent.mkdir(parents=True)
  rules = dataclasses.asdict(Rules(num_samples=2000, curve_samples=2000))
  config = {"data": {"name": dataset}, "model": {"hidden_sizes": [8, 9]}}
  files.write_json(path, {"config": config, "rules": rules, "rows": ROWS})


def test_other_methods_stand_beside_what_is_quoted_of_them(tmp_path):
  comparison(tmp_path, "mnist")
  lines = index.page(tmp_path, []).splitlines()
  found = [line.split("|")[1:-1] for line in lines if line[:5] in ("| VAE", "| GSN")]
  annealing = "16 images, 1,000 temperatures, variance 0.005, sandwich gap 2.5"
  samples = "2,000 samples of 15 calls, sigma 0.17"
  assert [" ".join(" ".join(cells).split()) for cells in found] == [
    f"VAE 8-9 AIS 991.4 ± 6.5 (table 3.1) 950.0 ± 12.0 {annealing}",
    "VAE 8-9 bound - 800.0 ± 9.0 200 images",
    f"GSN, walkback, walk 8-9 Parzen 214 ± 1.1 (figure 3.4) 199.5 ± 1.2 {samples}",
  ]


def test_comparisons_on_other_data_have_nothing_quoted_beside_them(tmp_path):
  comparison(tmp_path, "digits")
  assert "measured here" not in index.page(tmp_path, [])


def measurement(name, value, data="mnist"):
  protocol = {"data": data, "num_images": 10, "num_chains": 2}
  return {
    "name": name,
    "value": value,
    "standard_error": 1.0,
    "protocol": protocol,
    "details": {},
  }


def test_the_best_model_of_each_main_number_stands_first():
  found = [
    (measurement("bound", 1340.0), None, "A"),
    (measurement("bound", 1360.0), None, "B"),
    (measurement("bound", 9999.0, data="digits"), None, "C"),
    (measurement("importance", 1500.0), None, "A"),
    (measurement("importance_tuned", 1837.0), None, "B"),
    (measurement("ais", 2500.0), None, "A"),
  ]
  bound, importance = index._best(found)
  assert bound[0] == "lower bound" and bound[1] == "1350.6 (table 3.1)"
  assert bound[2] == "1360.0 ± 1.0" and bound[4:6] == ["above", "B"]
  assert importance[2] == "1837.0 ± 1.0"
  assert importance[4:6] == ["within the error", "B"]


def test_a_row_without_a_published_number_is_empty():
  assert index._row("ais", measurement("ais", 2500.0), None, "A") == []
