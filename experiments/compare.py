"""Trains infusion and its rivals on one budget, and measures all alike.

    python -m experiments.compare --config=configs/compare/digits.py --workdir=DIR

The configuration (configs/compare/) has a `base`, infusion's own run, and the rules
under `compare`. Any value can be given on the command line, for example
--config.base.train.num_epochs=10 --config.compare.methods="('infusion','ddpm')". The
same command on the same workdir resumes; what is finished is not made again.
"""

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import common
from infusion_jax import datasets
from infusion_jax.comparison import standings
from infusion_jax.comparison.contest import Contest
from infusion_jax.comparison.rules import Rules
from infusion_jax.config import Config, build
from infusion_jax.errors import UserError
from infusion_jax.training import signals

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Comparison, e.g. configs/compare/digits.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the comparison; resumed if it is one."
)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars on stderr.")


@common.needs("config", "workdir")
def main(argv: list[str]) -> None:
  """Trains and measures method by method, then writes tables and pictures."""
  del argv
  config, rules = _read(common.config_values(_CONFIG))
  folder = pathlib.Path(_WORKDIR.value)
  dataset = datasets.from_config(config.data)
  labels = datasets.labels_from_config(config.data)
  try:
    with signals.asking() as asked:
      contest = Contest(
        config,
        rules,
        dataset,
        labels,
        folder,
        progress=_PROGRESS.value,
        say=lambda text: print(text, file=sys.stderr),
        asked=asked,
      )
      rows = contest.run()
  except signals.Stopped as stopped:
    print(f"{stopped}; the same command resumes", file=sys.stderr)
    sys.exit(signals.EXIT_CODE)
  written = standings.write(contest, rows)
  print(standings.tables(contest, rows))
  print(f"\nin {folder}: {', '.join(written)}; weights under runs/")


def _read(values: Mapping[str, Any]) -> tuple[Config, Rules]:
  """Infusion's run and the rules of a comparison.

  Raises:
    UserError: the configuration is no comparison, or a value of it is wrong.
  """
  if set(values) != {"base", "compare"}:
    raise UserError(
      f"config has the keys {', '.join(values)}; a comparison has 'base' and 'compare'"
      " (see configs/compare/)"
    )
  base = Config.from_dict(values["base"])
  return base, build(Rules, values["compare"], "config.compare")


if __name__ == "__main__":
  common.run(main)
