"""The HTML report: what is in it, and that a browser agrees."""

import base64
import html.parser
import io
import json
import re
import shutil

import numpy as np
import pytest
from launching import DIGITS, ROOT, launch
from PIL import Image

from infusion_jax.config import (
  ChainConfig,
  Config,
  ModelConfig,
  TrainConfig,
  dotted_keys,
)
from infusion_jax.storage import files
from infusion_jax.views import documents, html_report


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """The shipped checkpoint as a run with metrics and an evaluation."""
  folder = tmp_path_factory.mktemp("report") / "run"
  shutil.copytree(DIGITS, folder)
  rows = [
    {"step": 19 * epoch, "epoch": epoch, "split": split, "bound": -100.0 / epoch}
    | ({"loss": 3.0 / epoch} if split == "train" else {})
    for epoch in range(1, 30)
    for split in ("validation", "train")
  ]
  lines = "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "metrics.jsonl").write_text(lines)
  (folder / "launches.jsonl").write_text('{"command": "train <it> & go"}\n')
  times = [{"epoch": epoch, "seconds": 250.0} for epoch in (1, 2, 2, 3)]
  (folder / "timing.jsonl").write_text("".join(json.dumps(t) + "\n" for t in times))
  measured = {
    "name": "bound",
    "value": -71.2345678,
    "standard_error": 2.5,
    "deviation": None,
    "unit": "nats per image",
    "protocol": {"num_images": 90, "num_chains": 20, "rates": [0.0, 0.05]},
    "details": {"median_ess": 1.4},
    "checkpoint": "of before",
  }
  (folder / "evaluation.json").write_text(json.dumps({"metrics": {"bound": measured}}))
  return folder


@pytest.fixture(scope="module")
def file(workdir):
  result = launch("report", f"--workdir={workdir}")
  assert result.returncode == 0, result.stderr
  assert result.stdout == f"wrote {workdir}/report.html\n"
  return workdir / "report.html"


class Reader(html.parser.HTMLParser):
  """Tags, attributes and text, and whether what is opened is closed."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.open, self.text = [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in ("meta", "link", "img"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


@pytest.fixture(scope="module")
def page(file):
  return Reader(file.read_text())


def test_pictures_come_first_and_everything_is_closed(page):
  assert page.open == []
  titles = re.findall(
    "(Samples|Chains|Evaluation|Curves|Nearest training images|Inpainting"
    "|Time and parameters|Configuration|Provenance)\n",
    page.text,
  )
  assert titles == [
    "Samples",
    "Chains",
    "Evaluation",
    "Curves",
    "Nearest training images",
    "Inpainting",
    "Time and parameters",
    "Configuration",
    "Provenance",
  ]


def test_numbers_say_what_they_rest_on(page):
  for text in (
    "-71.2346\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}2.5",
    "90 images, 20 chains, median ESS 1.4",
    "rates 0, 0.05",
    "bound (older checkpoint)",
    "the median effective sample size is 1.4",
    "another seed of training",
    "train <it> & go",
    "-72.85 nats per image, after epoch 284",
    "12 min, 3 epochs",
    "250 s",
  ):
    assert text in page.text
  hidden = 64 * 256 + 256 * 256 + 256 * 128 + 128
  assert f"{hidden:,}" in page.text
  assert f"{2 * 2 * 10 * 256:,} (10 steps)" in page.text


def test_the_configuration_is_that_of_active_keys(file):
  keys = re.findall(r'data-label="key">([^<]*)<', file.read_text())
  assert "model.hidden_sizes" in keys and "chain.omega" in keys
  unread = {"model.channels", "train.bound_weight", "train.parzen_samples", "data.path"}
  assert not unread & set(keys)
  row = r'data-label="key">chain.omega</td><td[^>]*>0.05</td><td[^>]*>0.01<'
  assert re.search(row, file.read_text())


def test_a_network_of_ones_own_may_read_any_key():
  own = Config(model=ModelConfig(name="mine.py:Net"))
  assert "model.channels" in html_report.config_table(own)
  assert "model.channels" not in html_report.config_table(Config())


def test_every_key_that_may_be_left_out_is_a_key():
  assert set(html_report._READ_IF) <= set(dotted_keys())


def test_a_criterion_brings_its_own_keys():
  hybrid = html_report.config_table(Config(train=TrainConfig(objective="hybrid")))
  assert "train.bound_weight" in hybrid and "train.num_chains" not in hybrid
  assert "train.bound_weight" not in html_report.config_table(Config())


def test_given_rates_take_the_place_of_their_formula():
  given = Config(chain=ChainConfig(num_steps=2, rates=(0.0, 0.3)))
  assert "chain.omega" not in html_report.config_table(given)


@pytest.mark.parametrize(
  ("seconds", "told"),
  [(44.6, "45 s"), (90, "2 min"), (3570, "1 h 0 min"), (7384, "2 h 3 min")],
)
def test_durations_are_told_as_people_do(seconds, told):
  assert html_report.duration(seconds) == told


def test_nothing_is_loaded_from_anywhere(file, page):
  assert "<script" not in file.read_text()
  for tag, attributes in page.tags:
    for name in ("src", "href"):
      if name in attributes:
        assert attributes[name].startswith("data:"), (tag, attributes[name][:40])
  assert not re.search(r"https?://", file.read_text())
  assert str(file.parent.parent) not in file.read_text().split("Provenance")[0]


def test_pictures_are_pictures(page):
  images = [attributes for tag, attributes in page.tags if tag == "img"]
  assert len(images) == 7
  formats = []
  for attributes in images:
    assert attributes["alt"]
    content = base64.b64decode(attributes["src"].partition(",")[2])
    with Image.open(io.BytesIO(content)) as picture:
      picture.load()
      formats.append((picture.format, getattr(picture, "n_frames", 1)))
  assert formats.count(("PNG", 1)) == 6
  assert ("GIF", 11) in formats


def test_a_bare_checkpoint_has_a_report_too(tmp_path):
  result = launch("report", f"--workdir={DIGITS}", f"--out={tmp_path}/x.html")
  assert result.returncode == 0, result.stderr
  text = Reader((tmp_path / "x.html").read_text()).text
  assert "There is no metrics.jsonl in this folder." in text
  assert "Nothing has been measured" in text


def test_data_that_are_away_leave_a_gap(workdir, tmp_path):
  moved = tmp_path / "run"
  shutil.copytree(workdir, moved)
  (about,) = moved.glob("checkpoints/*/about/metadata")
  value = json.loads(about.read_text())
  value["config"]["data"] |= {"source": "npz", "path": "nowhere.npz"}
  about.write_text(json.dumps(value))
  result = launch("report", f"--workdir={moved}")
  assert result.returncode == 0, result.stderr
  text = Reader((moved / "report.html").read_text()).text
  assert "Not drawn: data.path is 'nowhere.npz'; there is no such file" in text
  # Asked for by name, they must be there.
  result = launch("report", f"--workdir={moved}", "--data_path=elsewhere.npz")
  assert result.returncode == 2
  assert "elsewhere.npz" in result.stderr


def test_text_is_never_html():
  parts = [
    documents.section(documents.Section("a & <b>", "")),
    documents.table(["<b>"], [["<i>x</i>"], [None], [1 / 3], [[1, 2]]]),
    documents.folded("<b>", documents.paragraph("<b>")),
    documents.facts([("<b>", "<i>"), ("left out", None)]),
  ]
  page = html_report.page("<b>title</b>", "".join(parts))
  assert "<b>" not in page
  assert "<i>" not in page
  reader = Reader(page)
  assert "<i>x</i>" in reader.text
  assert "0.333333" in reader.text
  assert "left out" not in reader.text
  figure = documents.figure(np.zeros((2, 2, 3), np.uint8), '" onerror="x')
  assert Reader(figure).tags[2][1]["alt"] == '" onerror="x'


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
  """The report of a sweep whose table and pictures are all that is there."""
  folder = tmp_path_factory.mktemp("sweep_report") / "sweep"
  shutil.copytree(ROOT / "results/sweeps/digits", folder)
  result = launch("report", f"--workdir={folder}")
  assert result.returncode == 0, result.stderr
  return folder / "report.html"


def test_a_sweep_has_a_report(sweep):
  page = Reader(sweep.read_text())
  assert page.open == []
  table = json.loads((sweep.parent / "sweep.json").read_text())
  best = max(table["runs"], key=lambda run: run["test_bound"])
  assert f"{best['test_bound']:.2f} ± {best['standard_error']:.2f}" in page.text
  weights = re.findall('data-label="weights">(runs/[^<]+)<', sweep.read_text())
  assert weights == [run["weights"] for run in table["runs"]]
  assert page.text.index("Samples") < page.text.index("Runs\n")
  assert " > ".join(table["orders"][0]["labels"]) in page.text
  assert len([tag for tag, _ in page.tags if tag == "img"]) == 3


def test_changes_are_sorted_by_their_bound(tmp_path):
  sweep = ROOT / "results/sweeps/digits_training"
  result = launch("report", f"--workdir={sweep}", f"--out={tmp_path}/x.html")
  assert result.returncode == 0, result.stderr
  text = (tmp_path / "x.html").read_text()
  assert 'alt="What each change does to the bound, best first."' in text
  bounds = re.findall(r'data-label="test bound">([\d.]+) ', text)
  runs = json.loads((sweep / "sweep.json").read_text())["runs"]
  panel = [run["test_bound"] for run in runs if run["panel"] == runs[0]["panel"]]
  assert bounds[: len(panel)] == [f"{b:.2f}" for b in sorted(panel, reverse=True)]


def test_a_sweep_that_has_just_begun_is_refused(tmp_path):
  (tmp_path / "groups").mkdir()
  result = launch("report", f"--workdir={tmp_path}")
  assert result.returncode == 2
  assert "sweep.json does not exist; experiments.sweep writes it" in result.stderr
  result = launch("report", f"--workdir={tmp_path}", "--num_steps=3")
  assert "--num_steps does not go with a sweep" in result.stderr
  files.write_json(tmp_path / "sweep.json", {"format_version": 1, "runs": []})
  result = launch("report", f"--workdir={tmp_path}")
  assert "sweep.json holds no runs" in result.stderr


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("report", ["file", "sweep"])
def test_a_report_fits_its_window(opened, request, report, width, scheme):
  page = opened(request.getfixturevalue(report), width, scheme)
  page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
  assert page.evaluate("document.documentElement.scrollWidth") == width
  sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.width])")
  assert all(natural > 0 and shown > 100 for natural, shown in sizes)
  ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
  # Text does not run out of its cell, but wide pictures scroll in a box of their own.
  texts = "[...document.querySelectorAll('td, dd, p')]"
  over = page.evaluate(f"{texts}.map(text => text.scrollWidth - text.clientWidth)")
  assert max(over) <= 1
