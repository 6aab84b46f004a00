"""Draws a run's training curves: python -m experiments.curves --workdir=DIR.

The lower bound on training and validation images by epoch, and the Parzen estimate
where it was measured (train with --config.train.parzen_every=10): figure 3.3.
"""

import pathlib

from absl import flags

from experiments import common
from infusion_jax.drawing import outputs, plots
from infusion_jax.errors import UserError
from infusion_jax.training import metrics_log
from infusion_jax.views import figures

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run.")
_OUT = flags.DEFINE_string("out", None, "The .png; default WORKDIR/curves.png.")
_TITLE = flags.DEFINE_string("title", "", "Above the figure.")


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Reads the run's metrics and draws them."""
  del argv
  file = pathlib.Path(_WORKDIR.value) / metrics_log.FILE
  out = _OUT.value or str(file.parent / "curves.png")
  outputs.check(out, (".png",))
  if not file.is_file():
    raise UserError(f"--workdir is {_WORKDIR.value!r}; it has no {metrics_log.FILE}")
  picture = figures.training_curves(metrics_log.read(file), _TITLE.value)
  plots.save(out, picture)
  print(f"wrote {out}")


if __name__ == "__main__":
  common.run(main)
