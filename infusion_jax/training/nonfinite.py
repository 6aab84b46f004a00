"""When a loss or gradient is not finite: which numbers are not, and since where."""

import dataclasses

import jax
import numpy as np
import optax
from jax.experimental import checkify

from infusion_jax.objectives import Terms
from infusion_jax.training import programs
from infusion_jax.training.state import Recipe, Run, TrainState

_MOST_NAMES = 3


class NonFiniteError(ArithmeticError):
  """The loss or its gradient was not finite.

  Attributes:
    step: the first step of which that is true.
  """

  def __init__(self, step: int) -> None:
    super().__init__(f"the loss or its gradient is not finite at step {step}")
    self.step = step


def explain(
  recipe: Recipe,
  run: Run,
  images: np.ndarray,
  state: TrainState,
  labels: np.ndarray | None = None,
) -> str:
  """Repeats one step, every operation watched, and says what is not finite in it.

  Args:
    recipe: the program.
    run: the run's numbers.
    images: the training set, [N, H, W, C] uint8.
    state: before the step, on one device.
    labels: of the images, [N], or None.

  Returns:
    A subject with its verb: "the loss and the gradient of ... are not finite".
  """
  # One device suffices: it holds the whole batch and so all numbers.
  recipe = dataclasses.replace(recipe, mesh=None)
  batch, told = (
    None if rows is None else programs.batch_of(recipe, state, run, rows)
    for rows in (images, labels)
  )

  def watched(
    state: TrainState, batch: jax.Array, told: jax.Array | None
  ) -> dict[str, object]:
    found = programs.criterion(recipe, state, run, batch, told, with_terms=True)
    terms = found.terms._asdict() if found.terms else {}
    return {"loss": found.loss, "gradient": found.gradient, "terms": terms}

  checked = checkify.checkify(watched, errors=checkify.float_checks)
  error, found = jax.jit(checked)(state, batch, told)
  subjects = _not_finite(found)
  verb = "are" if len(subjects) > 1 or "terms" in subjects[0] else "is"
  where = " ".join((error.get() or "").split()).rstrip(".")
  return f"{_listed(subjects)} {verb} not finite" + (f" ({where})" if where else "")


def _not_finite(found: dict[str, object]) -> list[str]:
  subjects = [] if np.isfinite(found["loss"]) else ["the loss"]
  leaves = jax.tree_util.tree_leaves_with_path(found["gradient"])
  wrong = [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, leaf in leaves
    if not np.isfinite(leaf).all()
  ]
  if wrong:
    rest = f" and {len(wrong) - _MOST_NAMES} more" if len(wrong) > _MOST_NAMES else ""
    subjects.append(f"the gradient of {', '.join(wrong[:_MOST_NAMES])}{rest}")
  elif not np.isfinite(optax.tree.norm(found["gradient"])):
    subjects.append("the norm of the gradient")
  # Restores the order: JAX sorts the names in a compiled function's result.
  named = [name for name in Terms._fields if name in found["terms"]]
  terms = [name for name in named if not np.isfinite(found["terms"][name]).all()]
  if terms:
    subjects.append(f"the terms {', '.join(terms)}")
  return subjects or ["the loss or its gradient"]


def _listed(texts: list[str]) -> str:
  *first, last = texts
  return f"{', '.join(first)} and {last}" if first else last
