"""Points as pictures: where they lie, and how bright."""

import numpy as np

from infusion_jax.drawing import clouds


def test_x_runs_to_the_right_and_y_upwards():
  points = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [1.5, 0.5]])
  found = clouds.cloud(points.reshape(-1, 1, 2, 1), cells=4)[..., 0]
  expected = np.zeros((4, 4))
  expected[3, 3], expected[0, 0] = 2, 1
  np.testing.assert_allclose(found / found.max(), expected / 2, atol=0.05)


def test_a_density_lies_as_its_points_do():
  density = np.zeros((3, 3))
  density[2, 0] = 5.0  # x is high, y is low.
  found = clouds.of_density(density)[..., 0]
  assert np.argwhere(found).tolist() == [[2, 2]]
  assert found.max() == 1.0


def test_nothing_is_black():
  assert not clouds.cloud(np.full((3, 2), 7.0)).any()


def test_two_numbers_are_points():
  assert clouds.are_points((1, 2, 1))
  assert not clouds.are_points((8, 8, 1))
