"""Writes a run's model as a small checkpoint to share.

  python -m experiments.export --workdir=runs/digits --out=results/checkpoints/digits

It holds what sampling needs and nothing else: weights, batch statistics, prior,
configuration, and how it was trained. `infusion_jax.load` and --workdir take it.
"""

from absl import flags

from experiments import common
from infusion_jax import model
from infusion_jax.storage import provenance
from infusion_jax.training import workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_OUT = flags.DEFINE_string("out", None, "A new or empty folder.")


@common.needs("workdir", "out")
def main(argv: list[str]) -> None:
  """Loads the model and writes it without its training state."""
  del argv
  folder, _ = model.locate(_WORKDIR.value)
  trained = model.load(_WORKDIR.value)
  checkpoint = model.export(
    trained,
    _OUT.value,
    trained_by=workdir.read_launches(folder),
    exported_by=provenance.describe(),
  )
  size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
  print(f"wrote {checkpoint} ({size / 1e6:.2f} MB)")


if __name__ == "__main__":
  common.run(main)
