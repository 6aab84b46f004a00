"""Converts a PyTorch checkpoint of Inception-v3 for the Inception score, FID and KID.

    python -m experiments.convert_inception --checkpoint=FILE.pth --out=inception.npz

Needs PyTorch, here only, and a checkpoint that you have; `metrics/inception.py`
says which. Nothing in the checkpoint is executed (`weights_only=True`).
"""

import pathlib

import numpy as np
from absl import flags

from experiments import common
from infusion_jax.errors import UserError
from infusion_jax.metrics import inception

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "State dictionary, a .pth file.")
_OUT = flags.DEFINE_string("out", None, "File to write, .npz.")


@common.needs("checkpoint", "out")
def main(argv: list[str]) -> None:
  """Reads, renames, checks, writes."""
  del argv
  out = pathlib.Path(_OUT.value)
  if out.suffix != ".npz" or not out.parent.is_dir():
    raise UserError(
      f"--out is {str(out)!r}; allowed is a .npz file in an existing folder"
    )
  weights = inception.convert(read_checkpoint(_CHECKPOINT.value))
  inception.save(out, weights)
  print(f"wrote {len(weights)} arrays to {out}")


def read_checkpoint(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a PyTorch state dictionary.

  Raises:
    UserError: PyTorch is not installed, or the file is not such a dictionary.
  """
  try:
    import torch
  except ImportError as error:
    raise UserError(
      "reading a PyTorch checkpoint needs PyTorch, which is not installed here; run"
      " pip install torch, or convert on another machine"
    ) from error
  try:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: array.numpy() for name, array in state.items()}
  # Foreign files make PyTorch raise nearly anything.
  except Exception as error:
    text = " ".join(str(error).split())[:200]
    raise UserError(f"--checkpoint is {path!r}; it cannot be read ({text})") from error


if __name__ == "__main__":
  common.run(main)
