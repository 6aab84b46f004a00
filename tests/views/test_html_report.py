"""The HTML report: what is in it, and that a browser agrees."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from launching import DIGITS, launch
from PIL import Image

from infusion_jax.views import html_report
from infusion_jax.views.html_report import Section


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
  measured = {
    "name": "bound",
    "value": -71.2345678,
    "standard_error": 2.5,
    "deviation": None,
    "unit": "nats per image",
    "protocol": {"split": "test", "num_chains": 20, "rates": [0.0, 0.05]},
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


def test_everything_is_there_and_closed(page):
  assert page.open == []
  titles = re.findall(
    "Summary|Curves|Samples|Chains|Nearest training images|Inpainting|Evaluation"
    "|Configuration|Provenance",
    page.text,
  )
  assert len(set(titles)) == 9
  for text in (
    "chain.omega",
    "0.05",
    "-71.2346",
    "num_chains 20",
    "rates 0, 0.05",
    "bound (older checkpoint)",
    "train <it> & go",
    "-72.85 nats per image, after epoch 284",
  ):
    assert text in page.text


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
  page = html_report.page(
    "<b>title</b>",
    [
      Section(
        "a & b", html_report.table(["<h>"], [["<i>x</i>"], [None], [1 / 3], [[1, 2]]])
      )
    ],
  )
  assert "<b>" not in page
  assert "<i>" not in page
  reader = Reader(page)
  assert "<i>x</i>" in reader.text
  assert "0.333333" in reader.text
  figure = html_report.figure(np.zeros((2, 2, 3), np.uint8), '" onerror="x')
  assert Reader(figure).tags[1][1]["alt"] == '" onerror="x'


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")
def test_a_browser_shows_it_without_complaint(file, tmp_path):
  picture = tmp_path / "page.png"
  result = subprocess.run(
    [
      "chromium",
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--enable-logging=stderr",
      f"--user-data-dir={tmp_path / 'profile'}",
      "--window-size=1000,3000",
      f"--screenshot={picture}",
      f"file://{file}",
    ],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
  assert console == []
  with Image.open(picture) as shown:
    values = np.asarray(shown.convert("L"))
  # Pictures and text, not a blank or an error page.
  assert 0.05 < (values < 64).mean() < 0.9
