"""The published numbers, `published.json`."""

import json
import pathlib
from typing import Any

_FILE = pathlib.Path(__file__).parent / "published.json"


def numbers(*path: str) -> Any:
  """The whole of the file, or what stands under some keys, one inside the other."""
  found = json.loads(_FILE.read_text())
  for key in path:
    found = found[key]
  return found
