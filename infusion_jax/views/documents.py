"""HTML documents that are one file: text, tables and pictures without a network.

Pictures are inside the file, and its content policy forbids to load anything. All
functions that take text escape it.
"""

import base64
import hashlib
import html
import io
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from infusion_jax.drawing.tiles import Picture, to_pil

_WEB = pathlib.Path(__file__).parent / "web"


class Section(NamedTuple):
  """A heading and the HTML under it."""

  title: str
  body: str


def web_file(name: str) -> str:
  """The text of a style sheet, script or template of this package."""
  return (_WEB / name).read_text(encoding="utf-8")


def document(title: str, body: str, style: str, script: str = "") -> str:
  """A whole HTML document.

  Args:
    title: text.
    body: HTML.
    style: a CSS file of this package, besides `style.css`.
    script: JavaScript to run when the body has been read; no other will run.

  Returns:
    The file's content.
  """
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  parts = {
    "title": html.escape(title),
    "policy": f"script-src 'sha256-{digest}'" if script else "script-src 'none'",
    "style": web_file("style.css") + web_file(style),
    "body": body,
    "script": f"<script>{script}</script>" if script else "",
  }
  return _PAGE.format(**parts)


def heading(title: str) -> str:
  """The first heading of a document."""
  return f"<header><h1>{html.escape(title)}</h1></header>"


def subheading(title: str) -> str:
  """A heading within a section."""
  return f"<h3>{html.escape(title)}</h3>"


def section(part: Section) -> str:
  """A section with its heading."""
  return f"<section>\n<h2>{html.escape(part.title)}</h2>\n{part.body}\n</section>"


def folded(title: str, body: str) -> str:
  """HTML that is shown when its title is clicked."""
  return f"<details><summary>{html.escape(title)}</summary>\n{body}\n</details>"


def row(*parts: str) -> str:
  """Parts side by side where there is room, otherwise one under the other."""
  return f'<div class="row">{"".join(parts)}</div>'


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], kind: str = "") -> str:
  """An HTML table of text; numbers have six digits, None is a dash.

  On a narrow screen every row is a card of its own, its cells behind their headers,
  a line each; of a "compact" one they follow each other.
  """
  head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
  lines = [
    f"<tr>{''.join(map(_cell, headers, cells))}</tr>" for cells in map(tuple, rows)
  ]
  top = f"<thead><tr>{head}</tr></thead>" if any(headers) else ""
  return f'<table class="{kind}">{top}<tbody>{"".join(lines)}</tbody></table>'


def _cell(header: str, value: Any) -> str:
  label = f' data-label="{html.escape(header)}"' if header else ""
  label += ' class="none"' if value in (None, "") else ""
  return f"<td{label}>{html.escape(text_of(value))}</td>"


def figure(picture: Picture | bytes, caption: str, kind: str = "") -> str:
  """A picture [H', W', 3], or the content of a GIF or PNG file, with text beneath.

  Args:
    picture: the picture.
    caption: text; of a screen reader, too.
    kind: "plot" for lines on white, which a dark page inverts; "strip" for a picture
      that is scrolled rather than shrunk on a narrow screen.

  Returns:
    The HTML.
  """
  content = picture if isinstance(picture, bytes) else _png(picture)
  form = "gif" if content.startswith(b"GIF") else "png"
  code = base64.b64encode(content).decode()
  words = html.escape(caption)
  return (
    f'<figure class="{kind}"><div><img src="data:image/{form};base64,{code}"'
    f' alt="{words}"></div><figcaption>{words}</figcaption></figure>'
  )


def _png(picture: Picture) -> bytes:
  buffer = io.BytesIO()
  to_pil(picture).save(buffer, format="PNG", optimize=True)
  return buffer.getvalue()


def paragraph(text: str, kind: str = "") -> str:
  """A paragraph of text; `kind` "caution" sets it apart."""
  return f'<p class="{kind}">{html.escape(text)}</p>'


def facts(pairs: Iterable[tuple[str, Any]]) -> str:
  """Names and values as a list of small cards; those without a value are left out."""
  cards = [
    f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text_of(value))}</dd></div>"
    for name, value in pairs
    if value is not None
  ]
  return f"<dl>{''.join(cards)}</dl>"


def text_of(value: Any) -> str:
  """A value as text; numbers have six digits, None is a dash."""
  if value is None:
    return "–"
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, Mapping):
    return ", ".join(f"{key} {text_of(item)}" for key, item in value.items())
  if isinstance(value, (list, tuple)):
    return ", ".join(map(text_of, value)) or "–"
  return str(value)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; {policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
{script}
</body>
</html>
"""
