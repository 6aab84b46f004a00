"""Points in the plane: their shapes, their splits, their parts."""

import numpy as np
import pytest

from infusion_jax import UserError, datasets
from infusion_jax.datasets import points, registry


def unit(name, split="train"):
  """Points of a split, [N, 2], in the middles of their levels."""
  return (points.load(name).split(split).reshape(-1, 2) + 0.5) / 256


@pytest.mark.parametrize("name", ["two_moons", "rings", "checkerboard"])
def test_points_are_images_of_two_pixels(name):
  found = datasets.load(name, "points")
  assert found.image_shape == (1, 2, 1)
  assert [len(found.split(s)) for s in ("train", "validation", "test")] == [
    20_000,
    2_000,
    2_000,
  ]
  np.testing.assert_array_equal(found.train, datasets.load(name, "points").train)
  labels = registry.load_labels(name, "points")
  assert [len(labels[s]) for s in labels] == [20_000, 2_000, 2_000]
  assert np.bincount(labels["train"]).min() > 20_000 / len(set(labels["train"])) * 0.95


def test_rings_have_their_radii_and_labels():
  radius = np.hypot(*(unit("rings") - 0.5).T)
  ring = points.labels("rings")["train"]
  means = [radius[ring == k].mean() for k in range(3)]
  np.testing.assert_allclose(means, [0.15, 0.28, 0.41], atol=3e-3)
  np.testing.assert_allclose(np.std(radius[ring == 1]), 0.02, rtol=0.05)


def test_a_checkerboard_fills_every_other_cell():
  cells = np.floor(4 * unit("checkerboard")).astype(int)
  assert set((cells.sum(1) % 2).tolist()) == {0}
  counts = np.bincount(cells @ [4, 1])
  assert abs(counts[counts > 0] - 2500).max() < 5 * np.sqrt(2500)
  np.testing.assert_array_equal(points.labels("checkerboard")["train"], cells[:, 0])


def test_moons_are_half_circles():
  upper = points.labels("two_moons")["train"] == 0
  shifted = unit("two_moons")[upper] - (0.375, 0.4375)
  np.testing.assert_allclose(np.hypot(*shifted.T).mean(), 0.25, atol=2e-3)
  assert np.mean(shifted[:, 1] > -0.06) > 0.99


def test_splits_differ():
  train, test = (set(map(tuple, unit("rings", s))) for s in ("train", "test"))
  assert len(test - train) > len(test) / 3


def test_other_names_and_paths_are_refused():
  with pytest.raises(UserError, match=r"'spiral'.*checkerboard, rings, two_moons"):
    points.load("spiral")
  with pytest.raises(UserError, match="reads no path"):
    points.load("rings", "somewhere")
