"""Equations as MathML, which browsers show by themselves: no script, no font."""

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
  translator.body.append(_mathml(node, "inline"))
  raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
  translator.body.append(f"<div class='math'>{_mathml(node, 'block')}</div>\n")
  raise nodes.SkipNode


def _mathml(node: nodes.Element, display: str) -> str:
  return latex2mathml.converter.convert(node.astext(), display=display)


def setup(app: Sphinx) -> dict[str, bool]:
  """Sphinx calls it with the application."""
  renderers = (_visit_inline, None), (_visit_block, None)
  app.add_html_math_renderer("mathml", *renderers)
  return {"parallel_read_safe": True}
