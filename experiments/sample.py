"""Draws images: python -m experiments.sample --workdir=DIR --seeds=0-63.

Image i depends on the model and on seed i alone, never on the other seeds.
"""

import pathlib

import jax
from absl import flags

from experiments import common
from infusion_jax import plots
from infusion_jax.errors import UserError
from infusion_jax.model import keys_of, load

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_SEEDS = flags.DEFINE_string("seeds", "0-63", "Seeds: 5, 0-63 or 1,4,9-12.")
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Length of the chain; by default as trained.", lower_bound=1
)
_MEAN = flags.DEFINE_bool(
  "mean", True, "The mean of the last transition; --nomean draws from it."
)
_OUT = flags.DEFINE_string(
  "out", None, "Picture to write; default WORKDIR/samples.png."
)


def main(argv: list[str]) -> None:
  """Samples and writes a grid."""
  del argv
  seeds = parse_seeds(_SEEDS.value)
  out = pathlib.Path(_OUT.value or pathlib.Path(_WORKDIR.value) / "samples.png")
  plots.check_path(out)
  model = load(_WORKDIR.value)
  keys = keys_of(jax.random.key(0), seeds)
  images = model.sample_keys(keys, num_steps=_NUM_STEPS.value, mean=_MEAN.value)
  plots.save(out, plots.grid(images))
  print(f"wrote {len(seeds)} images to {out}")


def parse_seeds(text: str) -> list[int]:
  """The seeds that "0-3,7" names: [0, 1, 2, 3, 7].

  Raises:
    UserError: the text is not a list of numbers and ranges.
  """
  seeds = []
  for part in text.split(","):
    first, _, last = part.strip().partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
      raise UserError(
        f"--seeds is {text!r}; allowed are forms like 5, 0-63 and 1,4,9-12"
      )
    low, high = int(first), int(last or first)
    if high < low or high >= 2**32:
      raise UserError(f"--seeds has {part!r}; ranges run upwards and stay below 2**32")
    seeds.extend(range(low, high + 1))
  return seeds


if __name__ == "__main__":
  common.required("workdir")
  common.run(main)
