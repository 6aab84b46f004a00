"""Draws images and chains of a trained model.

  python -m experiments.sample --workdir=DIR --seeds=0-63             # a grid
  python -m experiments.sample --workdir=DIR --chain --seeds=0-7      # figure 3.1
  python -m experiments.sample --workdir=DIR --gif                    # an animation
  python -m experiments.sample --workdir=DIR --infuse=test:0-9        # figure A.3a
  python -m experiments.sample --workdir=DIR --infuse=test:3 --checkpoints=all
                                               --num_steps=30         # figure 3.2
  python -m experiments.sample --workdir=DIR --neighbors --num_steps=30  # figure 3.5
  python -m experiments.sample --workdir=DIR --label=3 --guidance=2      # one class
  python -m experiments.sample --workdir=DIR --label=all --seeds=0-7     # a row a class

Image i depends on the model and on seed i alone, never on the other seeds.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags

from experiments import common, selection
from infusion_jax import model
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import clouds, outputs, plots
from infusion_jax.errors import UserError
from infusion_jax.model import Model
from infusion_jax.storage import files
from infusion_jax.views import figures
from infusion_jax.views.figures import Frames

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_SEEDS = flags.DEFINE_string(
  "seeds", None, "Seeds: 5, 0-63 or 1,4,9-12. Default 0-63, for strips 0-7."
)
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Length of the chain; by default as trained.", lower_bound=1
)
_MEAN = flags.DEFINE_bool("mean", True, "Show the mean of the last transition.")
_SAMPLE = flags.DEFINE_bool("sample", False, "Draw from it instead, as --nomean does.")
_OUT = flags.DEFINE_string(
  "out",
  None,
  "What to write: a .png, a .npz (key images), a .gif of the chains, or a folder of"
  " images named by seed (a name without extension). Default: a picture in WORKDIR.",
)
_CHAIN = flags.DEFINE_bool("chain", False, "One row a chain, one column a step.")
_GIF = flags.DEFINE_bool("gif", False, "Animate the chains.")
_INFUSE = flags.DEFINE_string(
  "infuse", None, "Infusion chains towards images, e.g. test:0-9 or train:3,7."
)
_CHECKPOINTS = flags.DEFINE_string(
  "checkpoints",
  None,
  "With --infuse of one image: a row for each of these epochs, e.g. 0-5,10 (0 is"
  " before training), or for all that were kept (train.keep_every).",
)
_NEIGHBORS = flags.DEFINE_bool(
  "neighbors", False, "Chains, and the training image nearest to their ends."
)
_SHOW = flags.DEFINE_enum(
  "show",
  None,
  figures.SHOW,
  "States of a chain, or means of its transitions (default with --neighbors).",
)
_SCALE = common.scale_flag()
_LABEL = flags.DEFINE_string(
  "label",
  None,
  "Of a model with classes: the label of all images, as 3; or several, as 0-9 or all,"
  " with a row of images each.",
)
_GUIDANCE = flags.DEFINE_float(
  "guidance",
  None,
  "How much the label counts: 1, as without this flag, is the conditional model, 2"
  " exaggerates, 0 ignores it.",
  lower_bound=0.0,
  upper_bound=1000.0,
)
_DATA_PATH = flags.DEFINE_string(
  "data_path", None, "Where the data set is now, if not where the run had it."
)


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Checks the flags, loads the model, draws and writes."""
  del argv
  _check_flags()
  out = _OUT.value or str(model.locate(_WORKDIR.value)[0] / _default_name())
  drawing = _is_chains(out)
  gif = (".gif",) if drawing else ()
  allowed = gif if _GIF.value else (".png", ".npz", *gif)
  outputs.check(out, allowed, folder=not drawing)
  common.check_scale(_SCALE.value, out, (".png", ".gif"))
  count = (_write_chains if drawing else _write_images)(out)
  print(f"wrote {count} {'chains' if drawing else 'images'} to {out}")


def _check_flags() -> None:
  """Finds flags that do not go together, and lists of numbers that are none."""
  for one, other in (
    ("infuse", "seeds"),
    ("infuse", "sample"),
    ("infuse", "neighbors"),
    ("gif", "neighbors"),
    ("label", "infuse"),
    ("guidance", "infuse"),
  ):
    if flags.FLAGS[one].value and flags.FLAGS[other].value:
      raise UserError(f"--{one} does not go with --{other}; give one of them")
  numbers = _infuse()[1] if _INFUSE.value else _seeds()
  if _GUIDANCE.value is not None and _LABEL.value is None:
    raise UserError("--guidance needs --label; it says how much the label counts")
  if _LABEL.value not in (None, "all"):
    selection.parse_numbers(_LABEL.value, "label")
  if _CHECKPOINTS.value and (not _INFUSE.value or len(numbers) > 1):
    raise UserError("--checkpoints needs --infuse of one image, such as test:3")
  if _CHECKPOINTS.value not in (None, "all"):
    selection.parse_numbers(_CHECKPOINTS.value, "checkpoints")


def _is_chains(out: str) -> bool:
  asked = _CHAIN.value or _GIF.value or _NEIGHBORS.value or _INFUSE.value
  return bool(asked) or out.lower().endswith(".gif")


def _is_strip() -> bool:
  animated = _GIF.value or (_OUT.value or "").lower().endswith(".gif")
  return not animated and bool(_CHAIN.value or _NEIGHBORS.value)


def _default_name() -> str:
  names = {"infusion": _INFUSE, "neighbors": _NEIGHBORS, "chains": _CHAIN}
  name = next((name for name, flag in names.items() if flag.value), "samples")
  return f"{name}.{'gif' if _GIF.value else 'png'}"


def _seeds() -> list[int]:
  default = "0-7" if _is_strip() else "0-63"
  return selection.parse_numbers(_SEEDS.value or default, "seeds")


def _infuse() -> tuple[str, list[int]]:
  return selection.parse_images(_INFUSE.value, "infuse")


def _sampling() -> dict[str, Any]:
  return {
    "num_steps": _NUM_STEPS.value,
    "mean": _MEAN.value and not _SAMPLE.value,
    "guidance": _GUIDANCE.value,
  }


def _labels(trained: Model) -> list[int]:
  """The labels that --label asks for; none where it does not."""
  if _LABEL.value is None:
    return []
  if _LABEL.value == "all":
    if not trained.num_classes:
      raise UserError(f"--label is 'all'; the model in {trained.path} has no classes")
    return list(range(trained.num_classes))
  return selection.parse_numbers(_LABEL.value, "label")


def _write_images(out: str) -> int:
  seeds = _seeds()
  trained = model.load(_WORKDIR.value)
  labels = _labels(trained)
  if len(labels) > 1:
    return _write_classes(out, trained, labels, seeds)
  label = labels[0] if labels else None
  images = trained.sample(selection.keys(seeds), label=label, **_sampling())
  if outputs.is_folder(out):
    outputs.save_folder(out, images, seeds)
  elif out.lower().endswith(".npz"):
    outputs.save_arrays(out, {"images": images, "seeds": np.array(seeds)})
  elif clouds.are_points(trained.image_shape):
    plots.save(out, plots.grid(clouds.cloud(images)[None], scale=4))
  else:
    plots.save(out, plots.grid(images, scale=_SCALE.value))
  return len(images)


def _write_classes(
  out: str, trained: Model, labels: list[int], seeds: list[int]
) -> int:
  """A row of images for each label, the same seeds in all rows."""
  outputs.check(out, (".png", ".npz"))
  rows = np.stack(
    [
      trained.sample(selection.keys(seeds), label=label, **_sampling())
      for label in labels
    ]
  )
  if out.lower().endswith(".npz"):
    arrays = {"images": rows, "seeds": np.array(seeds), "labels": np.array(labels)}
    outputs.save_arrays(out, arrays)
  else:
    plots.save(
      out, plots.strip(rows, row_labels=[f"label {label}" for label in labels])
    )
  return len(labels) * len(seeds)


def _write_chains(out: str) -> int:
  trained = model.load(_WORKDIR.value)
  frames = _infusion(trained) if _INFUSE.value else _chains(trained)
  if out.lower().endswith(".npz"):
    outputs.save_arrays(out, frames.arrays())
  elif out.lower().endswith(".gif"):
    files.save_bytes(out, frames.gif(_SCALE.value))
  else:
    plots.save(out, frames.strip(_SCALE.value))
  return len(frames.images)


def _chains(trained: Model) -> Frames:
  seeds = _seeds()
  # Reads the data first, so that an unreadable file ends the command at once.
  dataset = _dataset(trained) if _NEIGHBORS.value else None
  show = _SHOW.value or ("means" if _NEIGHBORS.value else "states")
  labels = _labels(trained)
  if len(labels) > 1:
    raise UserError(f"--label is {_LABEL.value!r}; chains take one label")
  frames = figures.model_chains(
    trained,
    selection.keys(seeds),
    show=show,
    label=labels[0] if labels else None,
    **_sampling(),
  )
  frames = dataclasses.replace(frames, rows=[f"seed {seed}" for seed in seeds])
  if dataset is None:
    return frames
  frames, found = figures.with_neighbors(frames, dataset.train, dataset.levels)
  print(
    f"distance to the nearest training image: mean {found.distance.mean():.3f},"
    f" smallest {found.distance.min():.3f}"
  )
  return frames


def _infusion(trained: Model) -> Frames:
  split, numbers = _infuse()
  targets = selection.select(_dataset(trained), split, numbers)
  keys = selection.keys(numbers)
  options = {"num_steps": _NUM_STEPS.value, "show": _SHOW.value or "states"}
  if _CHECKPOINTS.value:
    return figures.over_epochs(_epochs(trained), keys, targets, **options)
  frames = figures.infusion_chains(trained, keys, targets, **options)
  return dataclasses.replace(frames, rows=[f"{split} {number}" for number in numbers])


def _epochs(trained: Model) -> Iterator[tuple[int, Model]]:
  """The models of --checkpoints by epoch, from the untrained one on."""
  kept = model.epochs(_WORKDIR.value)
  wanted = [*([] if trained.config.train.init_from else [0]), *kept]
  if _CHECKPOINTS.value != "all":
    wanted = selection.parse_numbers(_CHECKPOINTS.value, "checkpoints")
  if missing := [epoch for epoch in wanted if epoch and epoch not in kept]:
    raise UserError(
      f"--checkpoints has epoch {missing[0]}, which was not kept; kept are"
      f" {', '.join(map(str, kept))} (train.keep_every keeps more)"
    )
  for epoch in wanted:
    yield epoch, model.load(kept[epoch]) if epoch else model.untrained(trained)


def _dataset(trained: Model) -> Dataset:
  return selection.load_dataset(trained, _DATA_PATH.value)


if __name__ == "__main__":
  common.run(main)
