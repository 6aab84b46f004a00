"""Writes a run's model as a small checkpoint to share.

  python -m experiments.export --workdir=runs/digits --out=results/checkpoints/digits
  python -m experiments.export --workdir=runs/digits --format=safetensors \\
      --out=digits.safetensors
  python -m experiments.export --workdir=runs/digits --push_to_hub=owner/digits

It holds what sampling needs and nothing else: weights, batch statistics, prior,
configuration, and how it was trained. `infusion_jax.load` takes all three, the last as
"hf://owner/digits"; --workdir of other commands takes the first. --dtype=float16 halves
its size.
"""

import pathlib
from typing import Any

from absl import flags

from experiments import common
from infusion_jax import model
from infusion_jax.errors import UserError
from infusion_jax.model import Model, hub
from infusion_jax.storage import provenance, tensor_files, weights
from infusion_jax.training import workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_OUT = flags.DEFINE_string(
  "out", None, "A new or empty folder; a new file with --format=safetensors."
)
_FORMAT = flags.DEFINE_enum(
  "format", "checkpoint", ["checkpoint", "safetensors"], "What to write."
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  "float32",
  list(weights.DTYPES),
  "Type that the weights all steps share are stored in; when loaded they are float32.",
)
_PUSH = flags.DEFINE_string(
  "push_to_hub",
  None,
  "owner/name of a repository on the Hugging Face Hub that gets the model, instead of"
  " --out (needs huggingface_hub and its login).",
)


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Loads the model and writes it without its training state."""
  del argv
  _check_flags()
  folder, _ = model.locate(_WORKDIR.value)
  trained = model.load(_WORKDIR.value)
  notes = {
    "dtype": _DTYPE.value,
    "trained_by": workdir.read_launches(folder),
    "exported_by": provenance.describe(),
  }
  if _PUSH.value:
    print(f"wrote {model.push(trained, _PUSH.value, **notes)}")
    return
  written = _write(trained, notes)
  files = [file for file in (written, *written.rglob("*")) if file.is_file()]
  size = sum(file.stat().st_size for file in files)
  print(f"wrote {written} ({size / 1e6:.2f} MB)")


def _check_flags() -> None:
  """Raises UserError where the flags do not name one place to write to."""
  if bool(_OUT.value) == bool(_PUSH.value):
    told = "both there" if _OUT.value else "missing"
    raise UserError(f"--out and --push_to_hub are {told}; one of them is needed")
  if _PUSH.value:
    hub.check_name(_PUSH.value)


def _write(trained: Model, notes: dict[str, Any]) -> pathlib.Path:
  if _FORMAT.value == "safetensors":
    return model.export_file(trained, _OUT.value, **notes)
  if _OUT.value.endswith(tensor_files.SUFFIX):
    raise UserError(f"--out is {_OUT.value!r}; it needs --format=safetensors")
  return model.export(trained, _OUT.value, **notes)


if __name__ == "__main__":
  common.run(main)
