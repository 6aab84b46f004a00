"""The documentation's configuration: `make docs` builds it into docs/_build/html.

Pages are Markdown, as GitHub shows them; the reference comes from the docstrings.
Nothing is fetched, neither when the pages are built nor when they are read.
"""

import pathlib
import re
import sys
from typing import Any

from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

import infusion_jax

project = "infusion_jax"
author = "The infusion_jax authors"
release = infusion_jax.__version__

extensions = [
  "mathml",
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
# Pages link to other files of the repository, which are shown where it lies.
REPOSITORY = "https://github.com/infusion-jax/infusion_jax"
_ELSEWHERE = re.compile(r"(?<!!)(\[[^\]]*\])\(\.\./([^)]+)\)")

default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_default_options = {"members": True, "show-inheritance": False}
# The reference must build without these extras.
autodoc_mock_imports = ["ray", "tensorboardX", "wandb"]
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "infusion_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
pygments_style = "friendly"
pygments_dark_style = "monokai"
html_theme_options = {"source_repository": REPOSITORY}
# Formulas and commands in docstrings are indented by so much more than the text.
_DEEPER = 2


def _link_to_repository(app: Sphinx, name: str, source: list[str]) -> None:
  """Turns ](../results/X) into the address of that file."""
  del app, name
  source[0] = _ELSEWHERE.sub(rf"\1({REPOSITORY}/blob/main/\2)", source[0])


def _literal_blocks(
  app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
  """Shows what a docstring sets off by a blank line and indentation as it stands."""
  del app, what, name, obj, options
  found, outer, literal = [], 0, False
  for line in lines:
    indent = len(line) - len(line.lstrip())
    if line.strip():
      literal = literal and indent > outer
      if not literal:
        if found and not found[-1].strip() and indent >= outer + _DEEPER:
          found += [" " * outer + "::", ""]
          literal = True
        else:
          outer = indent
    found.append(line)
  lines[:] = found


def _skip_fields(
  app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool:
  """Fields of named tuples are described by their class."""
  del app, what, name, options
  return True if type(obj).__name__ == "_tuplegetter" else skip


def setup(app: Sphinx) -> None:
  """Sphinx calls it with the application."""
  app.connect("source-read", _link_to_repository)
  # Before napoleon, which has priority 500.
  app.connect("autodoc-process-docstring", _literal_blocks, priority=400)
  app.connect("autodoc-skip-member", _skip_fields)
