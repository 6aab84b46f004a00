"""The thesis's figures from a trained model: chains as rows of images.

Commands, reports and notebooks draw the same `Frames`.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from infusion_jax.drawing import line_plots, plots
from infusion_jax.drawing.tiles import Picture
from infusion_jax.errors import UserError
from infusion_jax.metrics.neighbors import Neighbors, nearest
from infusion_jax.model import Model
from infusion_jax.sampling import Chains
from infusion_jax.training import metrics_log

Array = jax.Array

#: What a column of a chain shows: the state z^(t), or the mean of p^(t).
SHOW = ("states", "means")


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
  """Chains as they are drawn, one row each.

  Attributes:
    images: [R, F, H, W, C]; the last frame is the picture the chain ends with.
    labels: of the columns, F of them: "t = 0" for a state, "mean" or "mean 1" for a
      mean.
    rows: labels of the rows, R of them, or None.
    last: [R, H, W, C], a column set apart, or None.
    last_label: what it shows.
  """

  images: np.ndarray
  labels: Sequence[str]
  rows: Sequence[str] | None = None
  last: np.ndarray | None = None
  last_label: str = ""

  def strip(self, scale: int | None = None) -> Picture:
    """One row a chain, one column a step, and the column set apart."""
    return plots.strip(
      self.images,
      self.last,
      self.labels,
      self.rows,
      last_label=self.last_label,
      scale=scale,
    )

  def gif(self, scale: int | None = None) -> bytes:
    """All chains at once, animated."""
    return plots.gif(self.images.swapaxes(0, 1), scale=scale)

  def arrays(self) -> dict[str, np.ndarray]:
    """What there is to keep in a file: images, and rows and last by their names."""
    found = {"images": self.images, "rows": self.rows, self.last_label: self.last}
    return {name: np.asarray(v) for name, v in found.items() if v is not None}


def model_chains(
  model: Model,
  keys: Array,
  *,
  num_steps: int | None = None,
  show: str = "states",
  mean: bool = True,
  **condition: Any,
) -> Frames:
  """Model chains, one per key (figures 3.1, A.2, A.3b, A.4b).

  Args:
    model: the model.
    keys: [R].
    num_steps: length of the chain; by default as trained.
    show: "states" shows z^(0) ... z^(T-1) and the picture, "means" those of
      p^(1) ... p^(T) (figure 3.5).
    mean: the picture is the mean of p^(T); False draws from it.
    **condition: `label` and `guidance`, see `Model.sample`.

  Returns:
    The chains, T + 1 frames for states, T for means.
  """
  chains = model.chain(keys, num_steps=num_steps, **condition)
  if mean:
    return _frames(chains, chains.means[:, -1], show)
  last = model.sample(keys, num_steps=num_steps, mean=False, **condition)
  return _frames(chains, last, show, f"t = {chains.means.shape[1]}")


def infusion_chains(
  model: Model,
  keys: Array,
  targets: np.ndarray,
  *,
  num_steps: int | None = None,
  show: str = "states",
) -> Frames:
  """Infusion chains, their targets [R, H, W, C] set apart (figures A.3a, A.4a)."""
  chains = model.infuse(keys, targets, num_steps=num_steps)
  frames = _frames(chains, chains.means[:, -1], show)
  return dataclasses.replace(frames, last=targets, last_label="target")


def over_epochs(
  models: Iterable[tuple[int, Model]],
  keys: Array,
  target: np.ndarray,
  **options: object,
) -> Frames:
  """The infusion chain towards one image, a row for each epoch (figure 3.2).

  Args:
    models: epochs, and the model after each.
    keys: [1].
    target: [1, H, W, C].
    **options: of `infusion_chains`.

  Returns:
    The chains.
  """
  chains: Mapping[int, Frames] = {
    epoch: infusion_chains(model, keys, target, **options) for epoch, model in models
  }
  return Frames(
    images=np.concatenate([frames.images for frames in chains.values()]),
    labels=next(iter(chains.values())).labels,
    rows=[f"epoch {epoch}" if epoch else "untrained" for epoch in chains],
    last=np.repeat(target, len(chains), axis=0),
    last_label="target",
  )


def with_neighbors(
  frames: Frames, train: np.ndarray, levels: int
) -> tuple[Frames, Neighbors]:
  """Sets apart the training images nearest to what the chains end with (figure 3.5).

  Args:
    frames: the chains.
    train: [M, H, W, C] integers.
    levels: grey levels of `train`.

  Returns:
    The frames, and which images these are and how far away.
  """
  found = nearest(frames.images[:, -1], train, levels)
  images = (train[found.index] / levels).astype(np.float32)
  return dataclasses.replace(frames, last=images, last_label="nearest"), found


def training_curves(rows: Sequence[Mapping[str, Any]], title: str = "") -> Picture:
  """Bounds on training and validation images by epoch, and Parzen (figure 3.3).

  Args:
    rows: of a run's `metrics.jsonl` (`training.metrics_log.read`).
    title: above the figure.

  Returns:
    The picture. The Parzen estimates, where there are any, have the right axis.

  Raises:
    UserError: no bound has been measured yet.
  """
  bounds = metrics_log.series(rows, "bound")
  if not bounds:
    raise UserError("metrics.jsonl holds no bound yet; the first epoch's end brings it")
  estimates = metrics_log.series(rows, "parzen")
  return line_plots.curves(
    bounds,
    "epoch",
    "lower bound (nats per image)",
    title,
    secondary={f"Parzen, {split}": line for split, line in estimates.items()},
    secondary_label="Parzen estimate (nats per image)",
    clip_low_quantile=0.05,
  )


def _frames(
  chains: Chains, last: np.ndarray, show: str, last_label: str = ""
) -> Frames:
  if show not in SHOW:
    raise UserError(f"show is {show!r}; allowed are {', '.join(SHOW)}")
  before = chains.states if show == "states" else chains.means[:, :-1]
  images = np.concatenate([before, last[:, None]], axis=1)
  if show == "states":
    labels = [f"t = {t}" for t in range(before.shape[1])] + [last_label or "mean"]
  else:
    names = [f"mean {t + 1}" for t in range(images.shape[1])]
    labels = [*names[:-1], last_label or names[-1]]
  return Frames(images, labels)
