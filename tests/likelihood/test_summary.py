import math

import numpy as np
import pytest

from infusion_jax import UserError
from infusion_jax.likelihood import bits_per_dimension, summarize


def test_deviations_over_images_and_over_repetitions():
  images = np.array([1.0, 2.0, 6.0])
  values = images + np.array([[0.0], [0.3]])
  found = summarize(values)
  assert found.mean == pytest.approx(3.15)
  assert found.standard_error == pytest.approx(images.std(ddof=1) / math.sqrt(3))
  assert found.deviation == pytest.approx(0.3 / math.sqrt(2))


def test_what_cannot_be_known_is_none():
  assert summarize([2.0]) == (2.0, None, None)
  assert summarize([1.0, 3.0]) == (2.0, 1.0, None)
  assert summarize([[1.0], [3.0]]).standard_error is None


@pytest.mark.parametrize("values", [[], np.zeros((2, 2, 2)), np.zeros((3, 0))])
def test_other_shapes_are_refused(values):
  with pytest.raises(UserError, match="shape"):
    summarize(values)


def test_uniform_noise_costs_the_bits_of_its_levels():
  # Independent uniform pixels have density 1 on [0, 1): log p = 0.
  assert bits_per_dimension(0.0, (28, 28, 1), 256) == pytest.approx(8.0)
  # A density of 256 a pixel knows every pixel's level: nothing left to code.
  known = 784 * math.log(256)
  assert bits_per_dimension(known, (28, 28, 1), 256) == pytest.approx(0.0)
  halved = bits_per_dimension(np.array([784 * math.log(2)]), (28, 28, 1), 256)
  np.testing.assert_allclose(halved, [7.0])


@pytest.mark.parametrize(
  "shape, levels, named", [((2, 2, 1), 0, "levels is 0"), ((0, 2, 1), 256, "shape")]
)
def test_impossible_images_are_refused(shape, levels, named):
  with pytest.raises(UserError, match=named):
    bits_per_dimension(1.0, shape, levels)
