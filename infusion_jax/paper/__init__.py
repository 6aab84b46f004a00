"""The thesis's tables and figures, each from a description of a few lines.

`targets` describes them, `runs` trains what they share, `layouts` measures and
draws, `records` keeps what came out, `index` makes a page of it, and `runner` does
one target after another.
"""
