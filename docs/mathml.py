"""Equations as MathML, which browsers show by themselves: no script, no font."""

import latex2mathml.converter
from docutils import nodes


def _visit_inline(translator, node):
  translator.body.append(_mathml(node, "inline"))
  raise nodes.SkipNode


def _visit_block(translator, node):
  translator.body.append(f"<div class='math'>{_mathml(node, 'block')}</div>\n")
  raise nodes.SkipNode


def _mathml(node, display):
  return latex2mathml.converter.convert(node.astext(), display=display)


def setup(app):
  """Sphinx calls it with the application."""
  renderers = (_visit_inline, None), (_visit_block, None)
  app.add_html_math_renderer("mathml", *renderers)
  return {"parallel_read_safe": True}
