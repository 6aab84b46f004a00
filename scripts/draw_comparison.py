"""Draws the plot of a comparison anew, from its numbers.

  python -m scripts.draw_comparison --file=results/compare/digits/comparison.json

The plot stands beside the file; nothing is trained or measured.
"""

import pathlib

from absl import flags

from experiments import common
from infusion_jax.comparison import standings
from infusion_jax.drawing import plots
from infusion_jax.storage import files

_FILE = flags.DEFINE_string("file", None, "What experiments.compare has written.")


@common.needs("file")
def main(argv: list[str]) -> None:
  """Reads rows and rules, draws, writes."""
  del argv
  path = pathlib.Path(_FILE.value)
  found = files.read_json(path)
  out = path.with_name(standings.PLOT_FILE)
  plots.save(out, standings.plot(found["rows"], found["rules"]["main_calls"]))
  print(f"wrote {out}")


if __name__ == "__main__":
  common.run(main)
