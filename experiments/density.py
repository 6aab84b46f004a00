"""Shows what a model of points in the plane has learned.

  python -m experiments.train --config=configs/two_d.py --workdir=DIR
  python -m experiments.density --workdir=DIR

Draws training points, samples and the model's exact density side by side, and below
the name with `_steps` the chains step by step; prints the exact test log-likelihood.
"""

import pathlib

import jax
from absl import flags

from experiments import common, selection
from infusion_jax import likelihood, model
from infusion_jax.drawing import outputs, plots
from infusion_jax.likelihood import quadrature
from infusion_jax.views import density

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_SEED = flags.DEFINE_integer(
  "seed", 0, "Decides samples and chains.", lower_bound=0, upper_bound=2**32 - 1
)
_OUT = flags.DEFINE_string("out", None, "A .png; default WORKDIR/density.png.")


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Checks the flags, loads model and points, draws, writes and prints."""
  del argv
  out = pathlib.Path(_OUT.value or model.locate(_WORKDIR.value)[0] / "density.png")
  outputs.check(str(out), (".png",))
  trained = model.load(_WORKDIR.value)
  quadrature.check_two_numbers(trained.image_shape)
  found = density.look(
    trained, selection.load_dataset(trained), jax.random.key(_SEED.value)
  )
  steps = out.with_name(f"{out.stem}_steps{out.suffix}")
  plots.save(out, found.picture)
  plots.save(steps, found.steps)
  mean, error, _ = likelihood.summarize(found.log_likelihood)
  count = len(found.log_likelihood)
  print(
    f"exact log-likelihood {mean:.4f} ± {error:.4f} nats per point ({count} test"
    f" points, numerical integration); wrote {out} and {steps}"
  )


if __name__ == "__main__":
  common.run(main)
