"""Launchers: one short file per command."""

import sys

from experiments import process

# Python imports this package first when it runs one of its modules with -m.
if sys.argv[:1] == ["-m"]:
  process.begin()
