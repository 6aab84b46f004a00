"""The documentation builds without a warning, and needs nothing from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from launching import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  for package in ("sphinx", "furo", "myst_parser", "latex2mathml"):
    pytest.importorskip(package, reason="needs the docs extra")
  out = tmp_path_factory.mktemp("site")
  options = ["-b", "html", "-q", "-W", "--keep-going"]
  done = subprocess.run(
    [sys.executable, "-m", "sphinx", *options, "-d", out / "doctrees", DOCS, out],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return out


def test_every_page_is_there_and_reached_from_the_first(site):
  first = (site / "index.html").read_text()
  for page in PAGES:
    assert (site / f"{page}.html").exists()
    assert page == "index" or f'href="{page}.html"' in first


def test_nothing_is_fetched(site):
  """Scripts, styles, fonts and pictures lie beside the pages."""
  fetched = r"<(?:script|img|iframe)[^>]*src=\"(?:https?:)?//[^\"]+"
  linked = r"<link[^>]*rel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"(?:https?:)?//"
  for page in site.rglob("*.html"):
    assert not re.findall(f"{fetched}|{linked}", page.read_text()), page.name
  for style in site.rglob("*.css"):
    assert not re.findall(
      r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text()
    )


def test_equations_are_mathml(site):
  page = (site / "index.html").read_text()
  assert page.count("<math") > 20
  assert page.count('display="block"') == 6
  assert "$$" not in page and r"\mathcal" not in re.sub(r"<annotation.*?>", "", page)


def test_the_reference_has_the_docstrings(site):
  page = (site / "reference.html").read_text()
  for name in ("load", "chain.infuse", "objectives.denoising", "likelihood.importance"):
    assert f'id="infusion_jax.{name}' in page or f"infusion_jax.{name}" in page
  assert "Alias for field number" not in page
  assert re.search(r"<pre>.*p\^\(t\)\(\. \| z\^\(t-1\)\)", page, re.S)


def test_links_into_the_repository_name_files_that_are_there():
  for page in DOCS.glob("*.md"):
    for target in re.findall(r"\]\(\.\./([^)#]+)", page.read_text()):
      assert (ROOT / target).exists(), (page.name, target)


def test_names_of_the_method_page_exist():
  """`module.name` in the text is a name of the package."""
  text = (DOCS / "index.md").read_text().partition("## In twenty lines")[0]
  import infusion_jax

  names = re.findall(r"`((?:\w+\.)+\w+)`", text)
  assert len(names) >= 12
  keys = {"chain.variance_scale", "chain.variance_floor", "chain.target_variance"}
  for name in {name for name in names if not name.startswith("lax.")} - keys:
    found = infusion_jax
    for part in name.split("."):
      if not hasattr(found, part):
        importlib.import_module(f"{found.__name__}.{part}")
      found = getattr(found, part)


def test_the_twenty_lines_run(tmp_path):
  text = (DOCS / "index.md").read_text()
  (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert re.fullmatch(r"loss -?\d+\.\d\d nats per pixel\n", done.stdout)
