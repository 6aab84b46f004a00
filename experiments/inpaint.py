"""Completes images of which a part is known (figure 3.6).

  python -m experiments.inpaint --workdir=DIR --keep=top --restarts=6
  python -m experiments.inpaint --workdir=DIR --images=test:0-9 --keep=left
  python -m experiments.inpaint --workdir=DIR --file=face.png --mask=mask.png

Known pixels are clamped at every step and come out bit-identical. What fills
the others depends on the model, the image's number and the restart's alone.
"""

import jax
import numpy as np
from absl import flags

from experiments import common, selection
from infusion_jax import model
from infusion_jax.drawing import outputs, plots
from infusion_jax.errors import UserError
from infusion_jax.model import Model
from infusion_jax.views import inpainting

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_IMAGES = flags.DEFINE_string(
  "images", "test:0-4", "Images of the data set: a split and numbers."
)
_FILE = flags.DEFINE_multi_string(
  "file", [], "A picture of your own instead (PNG, JPEG); give it again for more."
)
_KEEP = flags.DEFINE_enum("keep", "top", list(inpainting.PARTS), "The known part.")
_MASK = flags.DEFINE_string(
  "mask", None, "A picture instead of --keep: white where pixels are known."
)
_RESTARTS = flags.DEFINE_integer(
  "restarts", 6, "Completions of each image.", lower_bound=1
)
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Length of the chain; by default as trained.", lower_bound=1
)
_SEED = flags.DEFINE_integer(
  "seed",
  0,
  "Another seed fills in differently.",
  lower_bound=0,
  upper_bound=2**32 - 1,
)
_OUT = flags.DEFINE_string(
  "out",
  None,
  "A .png, or a .npz of originals, known, starts and images; default"
  " WORKDIR/inpaint.png.",
)
_SCALE = common.scale_flag()
_DATA_PATH = flags.DEFINE_string(
  "data_path", None, "Where the data set is now, if not where the run had it."
)


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Checks the flags, loads model and images, completes them and writes."""
  del argv
  _check_flags()
  out = _OUT.value or str(model.locate(_WORKDIR.value)[0] / "inpaint.png")
  outputs.check(out, (".png", ".npz"))
  common.check_scale(_SCALE.value, out, (".png",))
  trained = model.load(_WORKDIR.value)
  numbers, originals = _originals(trained)
  known = _known(trained)
  found = inpainting.complete(
    trained,
    jax.random.key(_SEED.value),
    originals,
    known,
    _RESTARTS.value,
    numbers=numbers,
    num_steps=_NUM_STEPS.value,
  )
  if out.lower().endswith(".npz"):
    arrays = {"originals": originals, "known": known, **found._asdict()}
    outputs.save_arrays(out, arrays)
  else:
    title = "image" if _FILE.value else f"{_IMAGES.value.partition(':')[0]} image"
    levels = trained.levels
    picture = inpainting.panel(originals, found, levels, title, _SCALE.value)
    plots.save(out, picture)
  print(f"wrote {_RESTARTS.value} completions of {len(originals)} images to {out}")


def _check_flags() -> None:
  for one, other in (("file", "images"), ("mask", "keep")):
    if flags.FLAGS[one].present and flags.FLAGS[other].present:
      raise UserError(f"--{one} does not go with --{other}; give one of them")
  selection.parse_images(_IMAGES.value, "images")


def _originals(trained: Model) -> tuple[list[int], np.ndarray]:
  """Numbers of the images, and the images [R, H, W, C]."""
  if _FILE.value:
    images = [
      inpainting.read_image(file, trained.image_shape, trained.levels)
      for file in _FILE.value
    ]
    return list(range(len(images))), np.stack(images)
  split, numbers = selection.parse_images(_IMAGES.value, "images")
  dataset = selection.load_dataset(trained, _DATA_PATH.value)
  return numbers, selection.select(dataset, split, numbers)


def _known(trained: Model) -> np.ndarray:
  if _MASK.value:
    return inpainting.read_mask(_MASK.value, trained.image_shape, _FILE.value)
  return inpainting.part(_KEEP.value, trained.image_shape)


if __name__ == "__main__":
  common.run(main)
