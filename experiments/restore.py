"""Restores half-seen images, with a model that was trained for it or was not.

  python -m experiments.restore --workdir=DIR --task=superres --factor=4
  python -m experiments.restore --workdir=DIR --task=colour --images=test:0-7
  python -m experiments.restore --workdir=DIR --task=inpaint --keep=left

Every state of the chain is held to what is seen: known pixels, the grey value, or the
means of blocks. A network that was trained for it (--config.model.condition=superres4,
superres2, colour or inpaint) is shown it instead. Prints how near the restorations are
and how much restarts differ; of such a network also what holding its states reaches.
"""

import pathlib

import jax
import numpy as np
from absl import flags

from experiments import common, selection
from infusion_jax import model
from infusion_jax.drawing import outputs, plots
from infusion_jax.model import Model
from infusion_jax.storage import files, provenance
from infusion_jax.views import inpainting, restoring

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_TASK = flags.DEFINE_enum(
  "task",
  None,
  restoring.TASKS,
  "inpaint: complete; colour: from grey; superres: from means of blocks.",
)
_FACTOR = flags.DEFINE_integer(
  "factor", 4, "Of superres: side of the blocks in pixels.", lower_bound=2
)
_KEEP = flags.DEFINE_enum(
  "keep", "top", list(inpainting.PARTS), "Of inpaint: the known part."
)
_IMAGES = flags.DEFINE_string(
  "images", "test:0-4", "Images of the data set: a split and numbers."
)
_RESTARTS = flags.DEFINE_integer(
  "restarts", 6, "Restorations of each image.", lower_bound=1
)
_LABEL = flags.DEFINE_integer(
  "label", None, "Of a model with classes: the label of all images.", lower_bound=0
)
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Length of the chain; by default as trained.", lower_bound=1
)
_SEED = flags.DEFINE_integer(
  "seed", 0, "Another seed restores otherwise.", lower_bound=0, upper_bound=2**32 - 1
)
_OUT = flags.DEFINE_string(
  "out",
  None,
  "A .png, or a .npz of originals, observed, plain and images; default"
  " WORKDIR/TASK.png. The numbers go to a .json beside it.",
)
_DATA_PATH = flags.DEFINE_string(
  "data_path", None, "Where the data set is now, if not where the run had it."
)


@common.needs("workdir", "task")
def main(argv: list[str]) -> None:
  """Checks the flags, loads model and images, restores them and writes."""
  del argv
  split, numbers = selection.parse_images(_IMAGES.value, "images")
  folder = model.locate(_WORKDIR.value)[0]
  out = pathlib.Path(_OUT.value or folder / f"{_TASK.value}.png")
  outputs.check(str(out), (".png", ".npz"))
  trained = model.load(_WORKDIR.value)
  dataset = selection.load_dataset(trained, _DATA_PATH.value)
  originals = selection.select(dataset, split, numbers)
  ways = ["held"]
  if restoring.can_be_shown(trained, _TASK.value, _FACTOR.value):
    ways.insert(0, "shown")
  each = {way: _restored(trained, originals, numbers, way) for way in ways}
  found = each[ways[0]]
  if out.suffix.lower() == ".npz":
    arrays = {"observed": found.observed, "plain": found.plain, "images": found.images}
    outputs.save_arrays(out, {"originals": originals, **arrays})
  else:
    plots.save(out, restoring.panel(originals, found, trained.levels))
  values = {way: restoring.measured(originals, each[way]) for way in ways}
  asked = {"task": _TASK.value, "images": _IMAGES.value, "restarts": _RESTARTS.value}
  report = {**asked, **values[ways[0]], "ways": values}
  files.write_json(
    out.with_suffix(".json"), {**report, "provenance": provenance.describe()}
  )
  for way in ways:
    print(_told(way, values[way]))
  print(f"wrote {_RESTARTS.value} restorations of {len(originals)} images to {out}")


def _restored(
  trained: Model, originals: np.ndarray, numbers: list[int], way: str
) -> restoring.Restored:
  return restoring.restore(
    trained,
    jax.random.key(_SEED.value),
    originals,
    _TASK.value,
    _RESTARTS.value,
    numbers=numbers,
    factor=_FACTOR.value,
    known=inpainting.part(_KEEP.value, trained.image_shape),
    num_steps=_NUM_STEPS.value,
    label=_LABEL.value,
    way=way,
  )


#: How a person reads the names of `restoring.WAYS`.
_WORDS = {
  "held": "states held to what is seen",
  "shown": "network shown what is seen",
}


def _told(way: str, values: dict[str, float]) -> str:
  return (
    f"{_WORDS[way]}: PSNR {values['psnr']:.2f} dB of single restorations,"
    f" {values['psnr_mean']:.2f} of their mean, {values['psnr_plain']:.2f} without a"
    f" model; restarts differ by {values['diversity']:.4f}"
  )


if __name__ == "__main__":
  common.run(main)
