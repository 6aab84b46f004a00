"""What a network is shown of images: values at their places, zeros elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infusion_jax import UserError
from infusion_jax.config import CONDITIONS
from infusion_jax.restoration import conditions
from infusion_jax.restoration.observation import GREY, Means

SHAPE = (3, 8, 4, 3)


@pytest.fixture
def x(key):
  return jax.random.uniform(key, SHAPE)


def test_every_condition_of_the_configuration_is_there(x, key):
  assert set(CONDITIONS) == {"inpaint", *conditions.MEANS}
  for name in CONDITIONS:
    conditions.check(name, SHAPE[1:])
    assert conditions.of_images(name, key, x).shape == (*SHAPE[:3], 4)


def test_means_stand_at_all_of_their_pixels(x, key):
  found = np.asarray(conditions.of_images("superres2", key, x))
  blocks = np.asarray(x).reshape(3, 4, 2, 2, 2, 3).mean((2, 4))
  for row in range(8):
    for column in range(4):
      expected = blocks[:, row // 2, column // 2]
      np.testing.assert_allclose(found[:, row, column, :3], expected, rtol=1e-5)
  np.testing.assert_array_equal(found[..., 3], 1.0)
  grey = np.asarray(conditions.of_images("colour", key, x))
  values = (np.asarray(x) * GREY).sum(-1)
  for channel in range(3):
    np.testing.assert_allclose(grey[..., channel], values, rtol=1e-5)
  np.testing.assert_array_equal(grey[..., 3], 1.0)


def test_a_part_is_shown_and_nothing_else(x):
  known = np.zeros(SHAPE[1:3], bool)
  known[2:5, 1:] = True
  found = np.asarray(conditions.of_part(x, known[..., None]))
  np.testing.assert_array_equal(found[..., 3], np.broadcast_to(known, SHAPE[:3]))
  np.testing.assert_array_equal(found[:, known, :3], np.asarray(x)[:, known])
  assert not found[:, ~known].any()


def test_random_parts_are_rectangles_of_all_kinds(key):
  count = 4000
  known = np.asarray(conditions.parts(key, (count, 8, 8, 1)))[..., 0]
  rows, columns = known.any(2), known.any(1)
  np.testing.assert_array_equal(known, rows[:, :, None] & columns[:, None, :])
  # Without gaps.
  for lines in (rows, columns):
    assert (
      np.abs(np.diff(np.pad(lines, [(0, 0), (1, 1)]).astype(int))).sum(1) <= 2
    ).all()
  # A side lies at the border as often as not, and by chance from inside, too.
  assert 0.5 < rows[:, 0].mean() < 0.65
  assert 0.5 < columns[:, -1].mean() < 0.65
  top, whole = rows[:, 0] & ~rows[:, -1] & columns.all(1), known.all((1, 2))
  middle = ~rows[:, 0] & ~rows[:, -1] & ~columns[:, 0] & ~columns[:, -1]
  for kind in (top, whole, middle):
    assert kind.mean() > 0.02
  again = np.asarray(conditions.parts(jax.random.fold_in(key, 1), (count, 8, 8, 1)))
  assert (again[..., 0] != known).any()


@pytest.mark.parametrize(
  ("name", "shape", "told"),
  [
    ("superres4", (6, 8, 1), "'superres4'; factor is 4"),
    ("colour", (8, 8, 1), "'colour'; images have 1 channels"),
  ],
)
def test_images_that_cannot_be_observed_so_are_refused(name, shape, told):
  with pytest.raises(UserError, match=told):
    conditions.check(name, shape)


def test_means_are_those_that_chains_are_held_to(x):
  y = Means(4).observe(x)
  shown = conditions.of_means(Means(4), y, 3)
  np.testing.assert_allclose(Means(4).observe(shown[..., :3]), y, rtol=1e-5)
  assert shown.dtype == jnp.float32
