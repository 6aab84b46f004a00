"""A headless browser, for the tests that need one: `pip install -e '.[browser]'`."""

import contextlib
import shutil

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

#: Width and height of the windows that pages must fit in: a desk's and a phone's.
WINDOWS = {1400: 900, 390: 844}


@pytest.fixture(scope="session")
def browser():
  """The machine's own Chromium, driven by playwright."""
  api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
  path = next(filter(None, map(shutil.which, _BROWSERS)), None)
  if path is None:
    pytest.skip(f"needs a browser: one of {', '.join(_BROWSERS)}")
  with api.sync_playwright() as driver:
    chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield chromium
    chromium.close()


@pytest.fixture
def opened(browser):
  """A function that opens a file in a window; what is wrong with it fails the test."""
  told = []

  def show(path, width=1400, scheme="light"):
    size = {"width": width, "height": WINDOWS[width]}
    new = browser.new_page(viewport=size, color_scheme=scheme, has_touch=width < 600)
    page = stack.enter_context(contextlib.closing(new))
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.extend(_elsewhere(request.url)))
    page.goto(path.as_uri())
    return page

  with contextlib.ExitStack() as stack:
    yield show
    assert told == []


def _elsewhere(url: str) -> list[str]:
  """The address, if a file that has everything inside must not ask for it."""
  return [] if url.startswith(("file:", "data:", "blob:")) else [url]
