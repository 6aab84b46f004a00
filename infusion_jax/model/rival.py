"""A trained rival method as a model: pictures, and no chain."""

import functools
from collections.abc import Sequence
from typing import NoReturn

import jax
import numpy as np

from infusion_jax.errors import UserError
from infusion_jax.model.batches import at_least_one, in_batches, one_each
from infusion_jax.model.trained import Model
from infusion_jax.peers import Trained, pictures

Array = jax.Array


class PeerModel(Model):
  """A trained rival method, `network.peer`: it draws pictures, and has no chain."""

  def __repr__(self) -> str:
    """One line: what it is and where it comes from."""
    title, shape = self.network.peer.title, "x".join(map(str, self.image_shape))
    return f"PeerModel({str(self.path)!r}: {title}, images {shape})"

  def sample(
    self,
    key: Array,
    count: int | None = None,
    *,
    num_steps: int | None = None,
    mean: bool = True,
    label: int | Sequence[int] | None = None,
    guidance: float | None = None,
  ) -> np.ndarray:
    """Draws images as `Model.sample` does; `num_steps` are network calls.

    Raises:
      UserError: count or num_steps is below 1, `mean` is False, or there is a label.
    """
    calls = self.network.num_steps if num_steps is None else num_steps
    at_least_one("num_steps", calls)
    if not mean or label is not None or guidance is not None:
      self.markov()
    trained = Trained.of(self.weights)
    sample = functools.partial(pictures, self.network.peer, trained, num_calls=calls)
    return in_batches(sample, one_each(key, count))

  @property
  def no_chain(self) -> str:
    """What is told where a chain is asked for."""
    return (
      f"{self.path} holds a run of train.method = {self.config.train.method!r}, which"
      " has no chain; allowed are its pictures, and python -m experiments.compare"
    )

  def markov(
    self, num_steps: int | None = None, guidance: float | None = None
  ) -> NoReturn:
    """Raises UserError: a rival method has no chain."""
    raise UserError(self.no_chain)
