"""What a network is told of the images it is trained on."""

import jax
import jax.numpy as jnp

from infusion_jax import pixels, random
from infusion_jax.restoration import conditions
from infusion_jax.training.state import Recipe

Array = jax.Array


def told(
  recipe: Recipe,
  key: Array,
  images: Array,
  labels: Array | None,
  *,
  dropping: bool = True,
) -> dict[str, Array | None]:
  """What the operator is told of a batch: labels, and what is seen of its images.

  Args:
    recipe: the program.
    key: for what is chosen at random.
    images: [B, H, W, C] integers.
    labels: [B], or None.
    dropping: leave out each with the probability `recipe.label_dropout`.

  Returns:
    Named arguments of the operator.
  """
  if dropping:
    labels = dropped(recipe, random.named(key, "labels"), labels)
  if not recipe.condition:
    return {"label": labels}
  clean, key = pixels.scaled(images, recipe.levels), random.named(key, "seen")
  seen = conditions.of_images(recipe.condition, key, clean)
  if dropping:
    gone = random.uniform(random.fold_in(key, 0), (len(seen), 1, 1, 1))
    seen = jnp.where(gone < recipe.label_dropout, 0.0, seen)
  return {"label": labels, "seen": seen}


def dropped(recipe: Recipe, key: Array, labels: Array | None) -> Array | None:
  """Labels [B], some of them replaced by that of none; None where there are none."""
  if labels is None:
    return None
  gone = random.uniform(key, labels.shape) < recipe.label_dropout
  return jnp.where(gone, recipe.network.num_classes, labels)
