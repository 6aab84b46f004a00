"""Trains a model: python -m experiments.train --config=configs/digits.py --workdir=DIR.

Any configuration value can be given on the command line, for example
--config.chain.omega=0.02. The same command on the same workdir resumes.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from experiments import common
from infusion_jax import datasets
from infusion_jax.config import Config
from infusion_jax.training import loop, signals

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Configuration file, e.g. configs/digits.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; resumed if it is one."
)
_TENSORBOARD = flags.DEFINE_bool(
  "tensorboard", False, "Also write TensorBoard event files (needs tensorboardX)."
)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show a progress bar on stderr.")


@common.needs("config", "workdir")
def main(argv: list[str]) -> None:
  """Loads the data, trains, and says where things are."""
  del argv
  config = Config.from_dict(common.config_values(_CONFIG))
  workdir = pathlib.Path(_WORKDIR.value)
  dataset = datasets.from_config(config.data)
  try:
    outcome = loop.fit(
      config,
      dataset,
      workdir,
      tensorboard=_TENSORBOARD.value,
      progress=_PROGRESS.value,
    )
  except signals.Stopped as stopped:
    print(f"{stopped}; the same command resumes", file=sys.stderr)
    sys.exit(signals.EXIT_CODE)
  reason = " (no better bound for a while)" if outcome.stopped_early else ""
  print(
    f"trained {outcome.epochs} epochs{reason}: best validation bound"
    f" {outcome.best_bound:.2f} nats per image after epoch {outcome.best_epoch}\n"
    f"pictures in {workdir / 'samples'}, metrics in {workdir / 'metrics.jsonl'}"
  )


if __name__ == "__main__":
  common.run(main)
