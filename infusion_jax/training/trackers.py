"""Metrics for tools that watch a run, beside `metrics.jsonl`: optional extras."""

import pathlib
import secrets
import textwrap
from collections.abc import Mapping, Sequence
from typing import Protocol

from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.training import workdir as workdirs

#: Where a run keeps what Weights & Biases call it.
WANDB_FILE = "wandb_run.json"


class Tracker(Protocol):
  """What is told of every row of metrics."""

  def write(
    self, step: int, epoch: int, split: str, values: Mapping[str, float]
  ) -> None:
    """Takes one row: its step, epoch, split and named values."""

  def close(self) -> None:
    """Hands over what is left."""


class TensorBoard:
  """Event files under `tensorboard/` of the workdir."""

  def __init__(self, workdir: pathlib.Path, step: int) -> None:
    """Opens a file that takes the place of what others have after `step`.

    Raises:
      UserError: tensorboardX is not installed.
    """
    try:
      import tensorboardX
    except ImportError as error:
      raise _missing("tensorboard", "tensorboardX") from error
    folder = str(workdir / "tensorboard")
    self._events = tensorboardX.SummaryWriter(folder, purge_step=step + 1)

  def write(
    self, step: int, epoch: int, split: str, values: Mapping[str, float]
  ) -> None:
    """See `Tracker`."""
    del epoch
    for name, value in values.items():
      self._events.add_scalar(f"{split}/{name}", value, step)

  def close(self) -> None:
    """See `Tracker`."""
    self._events.close()


class WandB:
  """A run of Weights & Biases; its own variables (WANDB_PROJECT, WANDB_MODE) hold.

  The workdir keeps the run's name there, so that training that is resumed goes on in
  the same one. What was logged after the checkpoint resumed from is logged again, at
  the same places: `step` is a value of every row, not the order of logging.
  """

  def __init__(self, workdir: pathlib.Path, step: int) -> None:
    """Begins the run, or goes on in it.

    Raises:
      UserError: wandb is not installed, or does not begin.
    """
    del step
    try:
      import wandb
    except ImportError as error:
      raise _missing("wandb", "wandb") from error
    config = workdirs.read_config(workdir).to_dict()
    try:
      self._run = wandb.init(
        dir=str(workdir), id=_wandb_id(workdir), resume="allow", config=config
      )
    except Exception as error:  # From network, login, service.
      told = textwrap.shorten(f"{type(error).__name__}: {error}", 160)
      raise UserError(
        f"--wandb: Weights & Biases do not begin a run ({told}); with"
        f" WANDB_MODE=offline in the environment they keep it in {workdir / 'wandb'}"
      ) from error
    self._run.define_metric("*", step_metric="step")

  def write(
    self, step: int, epoch: int, split: str, values: Mapping[str, float]
  ) -> None:
    """See `Tracker`."""
    named = {f"{split}/{name}": value for name, value in values.items()}
    self._run.log({"step": step, "epoch": epoch, **named})

  def close(self) -> None:
    """See `Tracker`."""
    self._run.finish()


TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB}


def opened(names: Sequence[str], workdir: pathlib.Path, step: int) -> list[Tracker]:
  """The trackers of these names, for a run that goes on from a step.

  Raises:
    UserError: a package is missing, or a tracker does not begin.
  """
  return [TRACKERS[name](workdir, step) for name in names]


def _wandb_id(workdir: pathlib.Path) -> str:
  path = workdir / WANDB_FILE
  if not path.exists():
    files.write_json(path, {"id": secrets.token_hex(4)})
  return str(files.read_json(path).get("id"))


def _missing(flag: str, package: str) -> UserError:
  return UserError(
    f"--{flag} needs the package {package}, which is not installed;"
    f" pip install -e '.[{flag}]' in the checkout brings it"
  )
