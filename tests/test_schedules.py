"""Infusion rates and loss weights against the thesis's formulas."""

import numpy as np
import pytest

from infusion_jax import schedules
from infusion_jax.errors import UserError


@pytest.mark.parametrize(
  ("arguments", "options", "expected"),
  [
    ((4, 0.0, 0.01), {}, [0.0, 0.01, 0.02, 0.03]),
    ((3, 0.1, 0.2), {}, [0.1, 0.3, 0.5]),
    ((1, 0.3, 0.5), {}, [0.3]),
    ((3, 1.0, -0.5), {}, [1.0, 0.5, 0.0]),
    ((4, 0.02, 0.02), {"repeat_first": True}, [0.02, 0.02, 0.04, 0.06]),
    ((1, 0.3, 0.5), {"repeat_first": True}, [0.3]),
    ((4, 0.02, 0.02), {"repeat_first": False}, [0.02, 0.04, 0.06, 0.08]),
  ],
)
def test_linear_schedule(arguments, options, expected):
  rates = schedules.linear(*arguments, **options)
  assert rates.dtype == np.float32
  np.testing.assert_array_equal(rates, np.float32(expected))


def test_constant_schedule():
  np.testing.assert_array_equal(
    schedules.constant(3, 0.05), np.full(3, 0.05, np.float32)
  )


@pytest.mark.parametrize("rates", [[0.0], (0.5, 0.25, 1.0), np.linspace(0, 1, 5)])
def test_any_vector_of_rates_is_a_schedule(rates):
  array = schedules.validated(rates)
  assert array.dtype == np.float32
  np.testing.assert_array_equal(array, np.float32(rates))


@pytest.mark.parametrize(
  ("rates", "value", "step"),
  [
    ([0.1, -0.25], "-0.25", 1),
    ([1.5, 2.0], "1.5", 0),
    ([0.0, 0.5, np.nan], "nan", 2),
    ([0.0, np.inf], "inf", 1),
  ],
)
def test_rate_outside_the_unit_interval_is_named(rates, value, step):
  with pytest.raises(UserError) as error:
    schedules.validated(rates, "chain.rates")
  message = str(error.value)
  assert message.startswith("chain.rates ")
  assert f"rate {value} at step {step};" in message
  assert "[0, 1]" in message


@pytest.mark.parametrize("rates", [[], 0.5, [[0.1, 0.2]]])
def test_schedule_that_is_no_vector_is_named_with_its_shape(rates):
  with pytest.raises(UserError) as error:
    schedules.validated(rates, "chain.rates")
  assert f"chain.rates has shape {np.shape(rates)}" in str(error.value)


@pytest.mark.parametrize(
  ("alpha0", "omega", "wrong"), [(0.5, 0.2, "1.1"), (0.2, -0.1, "-0.1")]
)
def test_linear_schedule_that_leaves_the_interval_names_its_settings(
  alpha0, omega, wrong
):
  with pytest.raises(UserError) as error:
    schedules.linear(4, alpha0, omega)
  message = str(error.value)
  assert f"chain.alpha0 = {alpha0}" in message
  assert f"chain.omega = {omega}" in message
  assert "num_steps = 4" in message
  assert f"rate {wrong} at step 3" in message


@pytest.mark.parametrize(
  ("num_steps", "alpha0", "omega", "last"),
  # In binary, 0.09 + 0.07 * 13 is just above 1 and 0.3 - 0.1 * 3 just below 0.
  [(14, 0.09, 0.07, 1.0), (4, 0.3, -0.1, 0.0)],
)
def test_schedule_may_round_at_the_ends_of_the_interval(num_steps, alpha0, omega, last):
  assert schedules.linear(num_steps, alpha0, omega)[-1] == last


def test_repeating_the_first_rate_can_keep_a_schedule_inside():
  np.testing.assert_array_equal(
    schedules.linear(3, 0.5, 0.5, repeat_first=True), np.float32([0.5, 0.5, 1.0])
  )
  with pytest.raises(UserError):
    schedules.linear(3, 0.5, 0.5)


@pytest.mark.parametrize("num_steps", [0, -1, 2.5])
@pytest.mark.parametrize(
  "schedule",
  [
    schedules.loss_weights,
    lambda num_steps: schedules.linear(num_steps, 0.0, 0.0),
    lambda num_steps: schedules.constant(num_steps, 0.1),
  ],
)
def test_wrong_number_of_steps_is_named(schedule, num_steps):
  with pytest.raises(UserError, match=rf"num_steps is {num_steps};.*>= 1"):
    schedule(num_steps)


def test_loss_weights_are_t_over_T():
  weights = schedules.loss_weights(4)
  assert weights.dtype == np.float32
  np.testing.assert_array_equal(weights, np.float32([0.25, 0.5, 0.75, 1.0]))
