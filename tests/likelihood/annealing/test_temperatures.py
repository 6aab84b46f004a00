import numpy as np
import pytest

from infusion_jax import UserError
from infusion_jax.likelihood.annealing import temperatures


def test_geometric():
  found = temperatures.geometric(4, 1e-3)
  np.testing.assert_allclose(found, [0, 1e-3, 1e-2, 1e-1, 1])


def test_polynomial():
  np.testing.assert_allclose(
    temperatures.polynomial(4, 2.0), [0, 1 / 16, 1 / 4, 9 / 16, 1]
  )


@pytest.mark.parametrize("name", temperatures.NAMED)
def test_all_run_from_zero_to_one(name):
  found = temperatures.named(name, 37)
  assert found.shape == (38,)
  assert found[0] == 0 and found[-1] == 1
  assert np.all(np.diff(found) > 0)


def test_sigmoid_is_symmetric_and_dense_at_the_ends():
  found = temperatures.sigmoid(100, 4.0)
  np.testing.assert_allclose(found + found[::-1], 1.0, atol=1e-12)
  assert found[0] == 0 and found[-1] == 1
  steps = np.diff(found)
  assert np.all(steps > 0)
  np.testing.assert_allclose(steps.max() / steps.min(), np.cosh(2.0) ** 2, rtol=0.1)


def test_respaced_follows_the_density():
  # Three times as many legs in the upper half.
  found = temperatures.respaced([0, 0.5, 1], [1, 3], 8)
  np.testing.assert_allclose(found, [0, 0.25, 0.5, *(0.5 + np.arange(1, 7) / 12)])


def test_respaced_with_equal_density_keeps_its_ends():
  betas = temperatures.geometric(50)
  found = temperatures.respaced(betas, 1 / np.diff(betas), 50)
  np.testing.assert_allclose(found, betas, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
  "call, named",
  [
    (lambda: temperatures.geometric(1), "temperatures is 1"),
    (lambda: temperatures.geometric(5, 0.0), "inverse temperature is 0"),
    (lambda: temperatures.geometric(5, 1.0), "inverse temperature is 1"),
    (lambda: temperatures.polynomial(5, 0.5), r"temperatures is 0\.5"),
    (lambda: temperatures.named("cubic", 5), "'cubic'; choose from polynomial, "),
    (lambda: temperatures.sigmoid(5, 0.0), "slope is 0"),
    (lambda: temperatures.sigmoid(2.5), r"temperatures is 2\.5"),
    (lambda: temperatures.respaced([0, 1], [0.0], 5), "density"),
    (lambda: temperatures.respaced([0, 0.5, 1], [1, np.nan], 5), "density"),
  ],
)
def test_impossible_schedules_are_refused(call, named):
  with pytest.raises(UserError, match=named):
    call()
