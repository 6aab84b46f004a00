"""The chain against a plain Python loop, and against numbers worked out by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import chain, pixels, random
from infusion_jax.chain import Infusion, MarkovChain
from infusion_jax.gaussian import Draw, Gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")

T, B, SHAPE = 4, 3, (2, 3, 3)
RATES = jnp.asarray([0.0, 0.3, 0.6, 1.0])
NARROW = 1e-2
TOY = toys.linear_gaussian(T, SHAPE)
KINDS = ["model", "infusion", "clamped"]


def images(seed=5):
  return jnp.asarray(np.random.default_rng(seed).uniform(size=(B, *SHAPE)), jnp.float32)


def known_pixels():
  return jnp.asarray(np.random.default_rng(6).uniform(size=(B, 2, 3, 1)) < 0.5)


def reporting(step, z):
  """The toy's transition, with a report of its own."""
  p, _ = toys.LinearGaussian.transition(step, z)
  return p, {"largest": z.max((1, 2, 3))}


def run(kind, key, x, known, toy=TOY, transition=reporting, unroll=1, **options):
  markov = dataclasses.replace(toy.markov(RATES, NARROW, transition), unroll=unroll)
  if kind == "infusion":
    return chain.infuse(key, markov, x, **options)
  if kind == "model":
    return chain.generate(key, markov, len(x), **options)
  return chain.clamp(key, markov, x, known, **options)


@functools.partial(jax.jit, static_argnames=("kind", "unroll"))
def recorded(kind, key, x, known, unroll=1):
  """A whole chain with everything there is to see, in one program."""

  def record(visit):
    # Keys are no numbers; of an infusion chain's inputs the rates are.
    rate = visit.inputs[1] if kind == "infusion" else None
    return visit._replace(inputs=rate)

  return run(kind, key, x, known, record=record, unroll=unroll)


def keys_of(kind, key):
  return {"one key": key, "a key per image": jax.random.split(key, B)}[kind]


def test_visits_are_those_of_a_plain_loop_over_steps(key):
  """State by state: draw from the distribution at hand, pass it on, repeat."""
  x, known = images(), known_pixels()
  for key_kind in ("one key", "a key per image"):
    keys = keys_of(key_kind, key)
    for kind in KINDS:
      result = jax.device_get(recorded(kind, keys, x, known))
      for t, expected in enumerate(loop(kind, keys, x, known)):
        visit = toys.row(result.trace, t)
        for name, value in expected.items():
          assert_trees_close(getattr(visit, name), value, f"{kind} {name} {t}")
      assert_trees_close(result.prediction, expected["after"], kind)
      if kind == "model":
        assert result.trace.mask is None
      if kind == "infusion":
        np.testing.assert_array_equal(result.trace.inputs, RATES)


def loop(kind, keys, x, known):
  """The method in numpy, one step after the other."""
  x, known = np.asarray(x), np.asarray(known)
  mean, variance = (np.broadcast_to(leaf, x.shape) for leaf in TOY.prior)
  for t in range(T):
    fold = jax.random.fold_in
    step_keys = jax.vmap(fold, (0, None))(keys, t) if keys.ndim else fold(keys, t)
    if kind == "infusion":
      # Two streams: the Gaussian noise, and one uniform a pixel for the mask.
      noise = draw("normal", step_keys, x.shape, 0)
      mask = draw("uniform", step_keys, (*x.shape[:-1], 1), 1) < np.asarray(RATES)[t]
      state = np.where(mask, x + NARROW**0.5 * noise, mean + variance**0.5 * noise)
    else:
      noise = draw("normal", step_keys, x.shape)
      state, mask = mean + variance**0.5 * noise, known
    if kind == "clamped":
      state = np.where(known, x, state)
    step = toys.row(jax.device_get(TOY.steps), t)
    before = Gaussian(mean, variance)
    mean = step.slope * state + step.offset
    variance = np.broadcast_to(step.variance, x.shape)
    visit = {
      "before": before,
      "state": state,
      "after": Gaussian(mean, variance),
      "step": step,
      "report": {"largest": state.max((1, 2, 3))},
    }
    if kind == "infusion":
      visit["inputs"] = np.asarray(RATES)[t]
    if kind != "model":
      visit["mask"] = mask
    yield visit


@functools.partial(jax.jit, static_argnames=("name", "shape", "stream"))
def draw(name, keys, shape, stream=None):
  """Plain jax.random, with one key or with one for every image."""
  if keys.ndim:
    return jax.vmap(lambda key: draw(name, key, shape[1:], stream))(keys)
  if stream is not None:
    keys = jax.random.fold_in(keys, stream)
  return getattr(jax.random, name)(keys, shape)


def assert_trees_close(actual, expected, name):
  actual, expected = (jax.tree.flatten(tree) for tree in (actual, expected))
  assert actual[1] == expected[1], name
  for a, b in zip(actual[0], expected[0], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=name)


# --- By hand --------------------------------------------------------------------------


def doubling(step, z):
  """A transition without noise: 2 z + step."""
  return Gaussian(2 * z + step, jnp.zeros_like(z)), z


def certain(value):
  return Gaussian(jnp.full((1, 1, 1), value), jnp.zeros((1, 1, 1)))


@pytest.mark.parametrize(
  ("rates", "states", "last"),
  [
    # The prior says 1; then 2 z + step with the steps 1, 2, 3; the image is 10.
    ([0, 0, 0], [1, 3, 8], 19),
    ([1, 0, 0], [10, 21, 44], 91),
    ([0, 1, 0], [1, 10, 22], 47),
    ([0, 0, 1], [1, 3, 10], 23),
    ([1, 1, 1], [10, 10, 10], 23),
  ],
)
def test_infusion_chain_worked_out_by_hand(key, rates, states, last):
  x = jnp.full((2, 1, 1, 1), 10.0)
  result = infuse_by_doubling(key, x, jnp.asarray(rates, jnp.float32))
  state, mask, after = (np.asarray(leaf)[:, :, 0, 0, 0] for leaf in result.trace)
  np.testing.assert_array_equal(state, np.transpose([states, states]))
  np.testing.assert_array_equal(mask, np.transpose([rates, rates]))
  np.testing.assert_array_equal(after[-1], [last, last])
  np.testing.assert_array_equal(result.prediction.mean.ravel(), [last, last])


@jax.jit
def infuse_by_doubling(key, x, rates):
  steps = jnp.asarray([1.0, 2.0, 3.0])
  markov = MarkovChain(doubling, steps, Infusion(certain(1.0), rates, 0.0))
  return chain.infuse(
    key,
    markov,
    x,
    record=lambda visit: (visit.state, visit.mask, visit.after.mean),
  )


def test_clamped_chain_worked_out_by_hand(key):
  """Two pixels, the left one known: 10 at every step, the right one is the model's."""
  image = jnp.asarray([10.0, -7.0]).reshape(1, 1, 2, 1)
  known = jnp.asarray([True, False]).reshape(1, 1, 2, 1)
  prior = Gaussian(jnp.ones((1, 2, 1)), jnp.zeros((1, 2, 1)))
  infusion = Infusion(prior, jnp.zeros(3), 0.0)
  markov = MarkovChain(doubling, jnp.asarray([1.0, 2.0, 3.0]), infusion)
  result = chain.clamp(key, markov, image, known, record=lambda visit: visit.state)
  np.testing.assert_array_equal(
    result.trace[:, 0, 0, :, 0], [[10, 1], [10, 3], [10, 8]]
  )
  np.testing.assert_array_equal(result.prediction.mean[0, 0, :, 0], [23, 19])


def test_longer_chain_repeats_the_last_step_by_hand(key):
  steps = chain.extended({"add": jnp.asarray([1.0, 2.0])}, 4)
  infusion = Infusion(certain(1.0), jnp.zeros(4), 0.0)
  markov = MarkovChain(lambda step, z: doubling(step["add"], z), steps, infusion)
  result = chain.generate(key, markov, 1, record=lambda visit: visit.state)
  np.testing.assert_array_equal(result.trace.ravel(), [1, 3, 8, 18])
  np.testing.assert_array_equal(result.prediction.mean.ravel(), [38])


def test_draw_of_ones_own_is_given_its_row_of_inputs_and_the_distribution(key):
  def draw(inputs, p):
    step_key, rate = inputs
    chance = jax.random.uniform(step_key, p.mean.shape)
    return Draw(p.mean + rate * chance, None)

  rates = jnp.asarray([0.0, 100.0])
  result = chain.run(
    (random.steps(key, 2), rates),
    chain.repeat_for_batch(certain(1.0), 1),
    doubling,
    jnp.asarray([1.0, 2.0]),
    draw,
    record=lambda visit: visit.state,
  )
  chance = jax.random.uniform(jax.random.fold_in(key, 1), (1, 1, 1, 1))
  np.testing.assert_allclose(result.trace[1], 3 + 100 * chance, rtol=1e-6)
  assert result.trace[0] == 1


# --- Steps ----------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("num_steps", "rows"), [(1, [0]), (3, [0, 1, 2]), (6, [0, 1, 2, 2, 2, 2])]
)
def test_extended_steps(num_steps, rows):
  steps = {"a": jnp.arange(3), "b": jnp.arange(12.0).reshape(3, 2, 2), "none": None}
  extended = chain.extended(steps, num_steps)
  np.testing.assert_array_equal(extended["a"], rows)
  np.testing.assert_array_equal(extended["b"], steps["b"][jnp.asarray(rows)])
  assert extended["none"] is None
  assert chain.length(extended) == num_steps


def test_length_is_that_of_the_leading_axis():
  assert chain.length({"none": None, "rows": jnp.zeros((5, 2))}) == 5


def test_repeat_for_batch_copies_the_prior():
  start = chain.repeat_for_batch(TOY.prior, 2)
  for leaf, row in zip(start, TOY.prior, strict=True):
    assert leaf.shape == (2, *SHAPE)
    np.testing.assert_array_equal(leaf[1], row)


# --- Images of a batch ----------------------------------------------------------------


def test_image_with_its_own_key_ignores_batch_and_order(key):
  """Bit for bit, for all three chains; the states are compared, not just the end."""
  x, known, keys = images(), known_pixels(), jax.random.split(key, B)
  order = np.asarray([2, 0, 1])
  for kind in KINDS:
    result = recorded(kind, keys, x, known).trace.state
    other = recorded(kind, keys[order], x[order], known[order]).trace.state
    np.testing.assert_array_equal(other, result[:, order])
    alone = recorded(kind, keys[1:2], x[1:2], known[1:2]).trace.state
    np.testing.assert_array_equal(alone, result[:, 1:2])


def test_images_steps_and_pixels_draw_different_noise(key):
  for key_kind in ("one key", "a key per image"):
    states = recorded("model", keys_of(key_kind, key), images(), known_pixels()).trace
    noise = (states.state - states.before.mean) / jnp.sqrt(states.before.variance)
    assert len(np.unique(np.asarray(noise).round(4))) > 0.98 * noise.size


def test_known_pixels_are_bit_identical_and_unknown_ones_vary(key):
  x, known = images(), known_pixels()
  state = np.asarray(recorded("clamped", key, x, known).trace.state)
  pixel_known = np.broadcast_to(known, state.shape)
  np.testing.assert_array_equal(
    state[pixel_known], np.broadcast_to(x, state.shape)[pixel_known]
  )
  assert (state != x)[~pixel_known].all()


def test_one_mask_can_serve_all_images_and_nothing_known_is_the_model(key):
  x = images()
  one = jnp.asarray([[True, False, True], [False, True, False]])[..., None]
  each = jnp.broadcast_to(one, (B, *one.shape))
  clamped = run("clamped", key, x, one, record=lambda visit: visit.state)
  np.testing.assert_array_equal(
    clamped.trace, recorded("clamped", key, x, each).trace.state
  )
  np.testing.assert_allclose(
    recorded("clamped", key, x, jnp.zeros_like(each)).trace.state,
    recorded("model", key, x, each).trace.state,
    rtol=1e-6,
  )


@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 5, 3)])
def test_infusion_reaches_the_image_at_rate_one_whatever_its_shape(key, shape):
  toy = toys.linear_gaussian(2, shape)
  x = toy.draw(key, 2)
  markov = toy.markov(jnp.ones(2), 0.0)
  result = chain.infuse(key, markov, x, record=lambda visit: visit)
  np.testing.assert_array_equal(result.trace.state, np.stack([x, x]))
  assert result.trace.mask.shape == (2, 2, *shape[:2], 1)
  assert result.prediction.mean.shape == x.shape


# --- The scan -------------------------------------------------------------------------


@pytest.mark.parametrize("unroll", [2, 3, True])
def test_unrolling_gives_the_same_chain(key, unroll):
  x, known = images(), known_pixels()
  expected = recorded("infusion", key, x, known)
  assert_trees_close(recorded("infusion", key, x, known, unroll), expected, "unroll")


def test_fold_accumulates_what_record_would_stack(key):
  def visited_sum(visit):
    return visit.state.sum((1, 2, 3)), visit.after.mean.mean()

  zero = (jnp.zeros(B), jnp.zeros(()))
  result = run(
    "infusion",
    key,
    images(),
    None,
    fold=lambda total, visit: jax.tree.map(jnp.add, total, visited_sum(visit)),
    initial=zero,
    record=visited_sum,
  )
  for total, trace in zip(result.total, result.trace, strict=True):
    np.testing.assert_allclose(total, np.sum(trace, 0), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_chain_stores_nothing_unless_asked(key, kind):
  x, known = images(), known_pixels()
  carried, stacked = toys.scan_outputs(lambda k: run(kind, k, x, known), key)
  assert carried == [(B, *SHAPE)] * 2
  assert stacked == []
  result = jax.eval_shape(lambda k: run(kind, k, x, known), key)
  assert result.trace is None
  assert result.total is None
  _, stacked = toys.scan_outputs(
    lambda k: run(kind, k, x, known, record=lambda visit: visit.state), key
  )
  assert stacked == [(T, B, *SHAPE)]


def test_another_schedule_or_other_steps_do_not_recompile(key):
  """A table of schedules is one program, or one `vmap`."""
  traces, x = [], images()

  @jax.jit
  def last_mean(rates, steps):
    traces.append(1)
    markov = TOY._replace(steps=steps).markov(rates, NARROW)
    return chain.infuse(key, markov, x).prediction.mean

  table = jnp.stack([jnp.zeros(T), RATES, jnp.ones(T)])
  results = [last_mean(rates, TOY.steps) for rates in table]
  last_mean(RATES, jax.tree.map(lambda leaf: 2 * leaf, TOY.steps))
  assert len(traces) == 1
  assert not np.allclose(results[0], results[2])
  together = jax.vmap(last_mean, (0, None))(table, TOY.steps)
  np.testing.assert_allclose(together, results, rtol=1e-5)


# --- The prior ------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 3, 3)])
def test_prior_has_the_moments_of_the_dequantized_images(levels, shape):
  """More images than a chunk holds; uint8 sums that would overflow."""
  rng = np.random.default_rng(0)
  data = rng.integers(levels - 5, levels, (2500, *shape)).astype(np.uint8)
  data[:, 0, 0] = 3
  prior = chain.fit_prior(data, 1 / levels, 1e-5)
  exact = data.astype(np.float64) + 0.5
  np.testing.assert_allclose(prior.mean, exact.mean(0) / levels, rtol=1e-6)
  variance = (exact.var(0) + 1 / 12) / levels**2 + 1e-5
  np.testing.assert_allclose(prior.variance, variance, rtol=1e-6)
  assert prior.mean.dtype == prior.variance.dtype == jnp.float32
  # A pixel that never changes has the noise's variance and the floor.
  np.testing.assert_allclose(prior.variance[0, 0], 1 / 12 / levels**2 + 1e-5, rtol=1e-6)


def test_prior_is_what_targets_look_like(key):
  data = np.random.default_rng(1).integers(0, 4, (200, 2, 1, 1)).astype(np.uint8)
  many = jnp.asarray(np.tile(data, (500, 1, 1, 1)))
  x = np.asarray(pixels.dequantized(key, many, 4), np.float64)
  prior = chain.fit_prior(data, 1 / 4, 0.0)
  np.testing.assert_allclose(prior.mean, x.mean(0), atol=4 * 0.3 / len(x) ** 0.5)
  np.testing.assert_allclose(prior.variance, x.var(0), rtol=4 / len(x) ** 0.5)
