"""Draws the pictures of the front page from the models that come with the project.

  python -m scripts.draw_front --out=results/front

method.png: an infusion chain of training above a model chain of sampling, state by
state, of the model of scikit-learn's digits. mnist.gif: chains of the model of MNIST.
"""

import pathlib
from typing import TYPE_CHECKING

import jax
import numpy as np
from absl import flags

from experiments import common
from infusion_jax import datasets, model
from infusion_jax.drawing import line_plots, plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.model import Model
from infusion_jax.sampling import Chains
from infusion_jax.storage import files

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.patches import Rectangle

_MODELS = flags.DEFINE_string(
  "models", "results/checkpoints", "Folder of the models `digits` and `mnist`."
)
_IMAGE = flags.DEFINE_integer("image", 4, "The target: number of a test image.", 0)
_SEED = flags.DEFINE_integer("seed", 8, "Of the chains of method.png.", 0)
_OUT = flags.DEFINE_string("out", "results/front", "Folder of the pictures.")

_TARGET = "#D55E00"
_TEXT = {"fontsize": 11, "ha": "left", "va": "bottom"}


def main(argv: list[str]) -> None:
  """Runs the chains and draws them."""
  del argv
  out, folder = pathlib.Path(_OUT.value), pathlib.Path(_MODELS.value)
  files.save_bytes(out / "mnist.gif", animation(model.load(folder / "mnist")))
  trained = model.load(folder / "digits")
  dataset = datasets.from_config(trained.config.data)
  target = dataset.test[_IMAGE.value] / dataset.levels
  keys = model.keys_of(jax.random.key(0), [_SEED.value])
  infused = trained.infuse(keys, target[None])
  drawn = picture(trained, target, infused, trained.chain(keys))
  plots.save(out / "method.png", drawn)
  print(f"wrote method.png and mnist.gif to {out}")


def animation(trained: Model) -> bytes:
  """A GIF: 24 chains of twice the steps trained with, every second state.

  Sixteen grey levels: noise in all of them would fill a megabyte.
  """
  steps = 2 * trained.network.num_steps
  chains = trained.chain(jax.random.key(0), 24, num_steps=steps)
  frames = [*chains.states[:, ::2].swapaxes(0, 1), chains.means[:, -1]]
  shown = np.round(15 * np.clip(np.stack(frames), 0.0, 1.0)) / 15
  return plots.gif(shown, columns=8, scale=3, padding=1, background=0)


def picture(
  trained: Model, target: np.ndarray, infused: Chains, generated: Chains
) -> Picture:
  """Draws a target [H, W, 1] and two chains of one row each."""
  from matplotlib.figure import Figure

  steps = trained.network.num_steps
  figure = Figure(figsize=(12.0, 3.8), dpi=150)
  axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
  axes.set(xlim=(-0.3, steps + 2.5), ylim=(3.3, -0.75), aspect="equal")
  axes.axis("off")
  rates = trained.weights.infusion.rates
  axes.text(
    0,
    -0.38,
    "Training: infusion. Each state is drawn from the network's last prediction, and a"
    " few pixels come from the target x instead (orange).",
    **_TEXT,
  )
  _row(axes, infused, 0.0, "The network learns to predict x from every state.")
  _image(axes, target, steps + 1.4, 0.0, "target x", _TARGET)
  for t in range(steps):
    _mark(axes, infused.mask[0, t, ..., 0], t, 0.0)
    axes.text(t + 0.45, -0.05, f"{float(rates[t]):.0%}", **_CENTRED, color=_TARGET)
  axes.text(0, 1.9, "Sampling: the same steps, nothing comes in.", **_TEXT)
  _row(axes, generated, 2.05, "")
  return line_plots.rendered(figure)


_CENTRED = {"fontsize": 8, "ha": "center", "va": "bottom"}


def _row(axes: "Axes", chains: Chains, top: float, note: str) -> None:
  """States z^(0) ... z^(T-1), and the mean that they end with, apart."""
  states, last = chains.states[0], chains.means[0, -1]
  for t, state in enumerate(states):
    _image(axes, state, t, top, f"z({t})")
  axes.annotate(
    "",
    (len(states) + 0.15, top + 0.45),
    (len(states) - 0.08, top + 0.45),
    arrowprops={"arrowstyle": "->", "color": "0.3"},
  )
  _image(axes, last, len(states) + 0.2, top, "mean")
  axes.text(0, top + 1.33, note, fontsize=9, color="0.35", va="center")


def _image(
  axes: "Axes",
  image: np.ndarray,
  left: float,
  top: float,
  name: str,
  frame: str = "0.6",
) -> None:
  """An image 0.9 wide under which its name stands."""
  extent = (left, left + 0.9, top + 0.9, top)
  axes.imshow(image[..., 0], "gray", vmin=0, vmax=1, extent=extent, zorder=1)
  box = axes.add_patch(_square(left, top, 0.9))
  box.set(edgecolor=frame, linewidth=0.8)
  axes.text(left + 0.45, top + 1.1, name, **_CENTRED)


def _mark(axes: "Axes", mask: np.ndarray, left: float, top: float) -> None:
  """Frames the pixels of a mask [H, W]."""
  side = 0.9 / len(mask)
  for row, column in np.argwhere(mask):
    box = axes.add_patch(_square(left + column * side, top + row * side, side))
    box.set(edgecolor=_TARGET, linewidth=1.1)


def _square(left: float, top: float, side: float) -> "Rectangle":
  from matplotlib.patches import Rectangle

  return Rectangle((left, top), side, side, fill=False, zorder=2)


if __name__ == "__main__":
  common.run(main)
