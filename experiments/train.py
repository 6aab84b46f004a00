"""Trains a model: python -m experiments.train --config=configs/digits.py --workdir=DIR.

Any configuration value can be given on the command line, for example
--config.chain.omega=0.02. The same command on the same workdir resumes, on any
number of devices and hosts.
"""

import pathlib
import sys

import jax
from absl import flags
from ml_collections import config_flags

from experiments import common
from infusion_jax import datasets, peers
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.networks import user_code
from infusion_jax.training import devices, hosts, loop, signals

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Configuration file, e.g. configs/digits.py.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of the run; resumed if it is one."
)
_TENSORBOARD = flags.DEFINE_bool(
  "tensorboard", False, "Also write TensorBoard event files (needs tensorboardX)."
)
_WANDB = flags.DEFINE_bool(
  "wandb",
  False,
  "Also log to Weights & Biases (needs wandb; WANDB_PROJECT, WANDB_MODE=offline and its"
  " other variables hold).",
)
_PROGRESS = flags.DEFINE_bool(
  "progress", True, "A bar on stderr, if it is a terminal; else a line an epoch."
)
_DEBUG_NANS = flags.DEFINE_bool(
  "debug_nans",
  False,
  "End with a traceback at the first operation that gives NaN (JAX's jax_debug_nans;"
  " slow). Without it, training says what is not finite and where it began.",
)
_NUM_DEVICES = flags.DEFINE_integer(
  "num_devices",
  0,
  "Devices, of all hosts together, that share every batch; it must divide"
  " --config.train.batch_size. 0: all there are.",
  lower_bound=0,
)
_MESH = flags.DEFINE_string(
  "mesh",
  "",
  "The same, written as a mesh: data:8 is eight devices along the batch, the only axis"
  " that is shared out; weights are on all devices.",
)
_cluster = common.dataclass_flags(hosts.Cluster)


@common.needs("config", "workdir")
def main(argv: list[str]) -> None:
  """Loads the data, trains, and says where things are."""
  del argv
  hosts.connect(_cluster())
  if _DEBUG_NANS.value:
    jax.config.update("jax_debug_nans", True)
  config = Config.from_dict(common.config_values(_CONFIG))
  user_code.run_named(config.model.name)
  workdir = pathlib.Path(_WORKDIR.value)
  mesh = devices.make_mesh(_num_devices(), config.train.batch_size)
  dataset = datasets.from_config(config.data, config.model.num_classes)
  try:
    outcome = loop.fit(
      config,
      dataset,
      workdir,
      tensorboard=_TENSORBOARD.value,
      wandb=_WANDB.value,
      progress=_PROGRESS.value,
      mesh=mesh,
    )
  except signals.Stopped as stopped:
    if hosts.is_first():
      print(f"{stopped}; the same command resumes", file=sys.stderr)
    sys.exit(signals.EXIT_CODE)
  if hosts.is_first():
    _tell(outcome, workdir, config.train.method)


def _num_devices() -> int:
  """What --num_devices or --mesh ask for; 0 if neither does."""
  named = devices.parse_mesh(_MESH.value) if _MESH.value else 0
  if named and _NUM_DEVICES.value not in (0, named):
    raise UserError(
      f"--num_devices is {_NUM_DEVICES.value} and --mesh {_MESH.value!r}; one of them"
      " is enough, and both must agree"
    )
  return named or _NUM_DEVICES.value


def _tell(outcome: loop.Outcome, workdir: pathlib.Path, method: str) -> None:
  reason = " (no better bound for a while)" if outcome.stopped_early else ""
  best = f"best validation bound {outcome.best_bound:.2f} nats per image"
  best = best if method == peers.OURS else f"{method}, weights kept"
  print(
    f"trained {outcome.epochs} epochs{reason}: {best} after epoch"
    f" {outcome.best_epoch}\n"
    f"pictures in {workdir / 'samples'}, metrics in {workdir / 'metrics.jsonl'}"
  )


if __name__ == "__main__":
  common.run(main)
