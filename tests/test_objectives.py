"""The criteria against closed forms, plain formulas and differentiation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import toys
from jax.tree_util import Partial

from infusion_jax import chain, objectives, schedules
from infusion_jax.chain import Infusion, MarkovChain, Parameters, Step
from infusion_jax.gaussian import Gaussian, log_density
from infusion_jax.networks import MLP, Network

pytestmark = pytest.mark.usefixtures("quick_compile")

CRITERIA = ["denoising", "lower_bound"]


# --- The bound of a linear-Gaussian chain, whose log p(x) is known --------------------


@functools.partial(jax.jit, static_argnames="num_chains")
def many_bounds(key, toy, x, rates, num_chains, target_variance=0.03):
  """[K, B] draws of l, all chains at once."""
  markov = toy.markov(rates, target_variance)

  def one(key):
    return objectives.bound(key, markov, x)[0].bound

  return jax.vmap(one)(jax.random.split(key, num_chains))


def standard_error(values):
  return values.std(0) / np.sqrt(len(values))


@pytest.mark.parametrize("rates", [[0.0, 0.0, 0.0], [0.0, 0.1, 0.3], [0.5, 0.0, 0.9]])
def test_bound_lies_below_log_likelihood(key, rates):
  toy = toys.linear_gaussian(3)
  x = toy.draw(jax.random.key(1), 3)
  values = np.asarray(many_bounds(key, toy, x, jnp.asarray(rates), 4000), np.float64)
  exact = toy.log_likelihood(x)
  assert (values.mean(0) + 4 * standard_error(values) < exact).all()


@pytest.mark.parametrize(
  ("num_steps", "shape", "rates"),
  [
    (1, (1, 1, 3), [0.4]),
    (3, (1, 2, 1), [0.0, 0.05, 0.1]),
    (3, (1, 1, 2), [0.2, 0.0, 0.3]),
  ],
)
def test_importance_sampling_recovers_log_likelihood(key, num_steps, shape, rates):
  """log mean exp(l) is log p(x): every term of l and its proposal fit together."""
  toy = toys.linear_gaussian(num_steps, shape)
  x = toy.draw(jax.random.key(1), 4)
  values = np.asarray(many_bounds(key, toy, x, jnp.asarray(rates), 40_000), np.float64)
  estimate = scipy.special.logsumexp(values, 0) - np.log(len(values))
  error = standard_error(np.exp(values - estimate))
  assert error.max() < 0.05
  np.testing.assert_array_less(np.abs(estimate - toy.log_likelihood(x)), 4 * error)


@pytest.mark.parametrize(
  ("num_steps", "shape"), [(1, (2, 2, 1)), (2, (1, 2, 3)), (5, (2, 1, 2))]
)
def test_bound_without_infusion_has_its_analytic_value(key, num_steps, shape):
  toy = toys.linear_gaussian(num_steps, shape)
  x = toy.draw(jax.random.key(1), 3)
  values = np.asarray(many_bounds(key, toy, x, jnp.zeros(num_steps), 4000), np.float64)
  difference = np.abs(values.mean(0) - toy.bound_without_infusion(x))
  np.testing.assert_array_less(difference, 4 * standard_error(values))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9, 1.0])
def test_bound_of_one_step_is_an_integral(key, rate):
  """T = 1, C = 1: E_q l by quadrature over one z per pixel."""
  toy, narrow = toys.linear_gaussian(1), 0.03
  x = toy.draw(jax.random.key(1), 2)
  z = np.linspace(-6, 6, 4001).reshape(-1, 1, 1, 1, 1, 1)
  p0, target = toy.prior, np.asarray(x)[..., None]
  p0 = Gaussian(*(np.asarray(leaf)[None, ..., None] for leaf in p0))
  log_q = toys.log_mixture(z, p0, target, rate, narrow)
  slope, offset, variance = (np.asarray(leaf) for leaf in toy.steps)
  log_x = toys.log_normal(target[..., 0], slope * z[..., 0] + offset, variance)
  value = toys.log_normal(z, *p0)[..., 0] - log_q + log_x
  exact = (np.exp(log_q) * value).sum(0) * (z[1] - z[0]).item()
  values = np.asarray(many_bounds(key, toy, x, jnp.full(1, rate), 4000, narrow))
  difference = np.abs(values.mean(0) - exact.sum((1, 2, 3)))
  np.testing.assert_array_less(difference, 4 * standard_error(values) + 1e-5)


def test_bound_of_two_steps_is_a_double_integral(key):
  """T = 2, one pixel: the second state's terms are conditional on the first."""
  toy, narrow, rates = toys.linear_gaussian(2, (1, 1, 1)), 0.05, [0.3, 0.6]
  x = toy.draw(jax.random.key(1), 1)
  grid = np.linspace(-5, 5, 1001)
  z0, z1 = grid[:, None, None], grid[None, :, None]
  target = float(x[0, 0, 0, 0])
  first, last = (toys.Affine(*(leaf[t].item() for leaf in toy.steps)) for t in (0, 1))
  p0 = Gaussian(*(leaf.item() for leaf in toy.prior))
  p1 = Gaussian(first.slope * z0 + first.offset, first.variance)
  log_q0 = toys.log_mixture(z0, p0, target, rates[0], narrow)
  log_q1 = toys.log_mixture(z1, p1, target, rates[1], narrow)
  value = (
    toys.log_normal(z0, *p0)[..., 0]
    - log_q0
    + toys.log_normal(z1, *p1)[..., 0]
    - log_q1
    + toys.log_normal(target, last.slope * z1 + last.offset, last.variance)[..., 0]
  )
  exact = (np.exp(log_q0 + log_q1) * value).sum() * (grid[1] - grid[0]) ** 2
  values = np.asarray(many_bounds(key, toy, x, jnp.asarray(rates), 20_000, narrow))
  assert abs(values.mean() - exact) < 4 * standard_error(values)


# --- A small network in double precision ----------------------------------------------

T, B, SHAPE = 3, 5, (2, 3, 2)
RATES = [0.0, 0.4, 1.0]
WEIGHTS = np.arange(1, T + 1) / T


def problem():
  """Generic parameters, targets and infusion; call it where x64 is on."""
  rng = np.random.default_rng(3)
  x = jnp.asarray(rng.uniform(size=(B, *SHAPE)))
  prior = Gaussian(*(jnp.asarray(rng.uniform(0.1, 0.9, SHAPE)) for _ in range(2)))
  infusion = Infusion(prior, jnp.asarray(RATES), 1e-2)
  return toys.operator_parameters(T, SHAPE), x, infusion


@functools.partial(
  jax.jit,
  static_argnames=(
    "name",
    "operator",
    "with_terms",
    "unroll",
    "score_free",
    "num_chains",
    "bound_weight",
    "bound_means",
  ),
)
def criterion(name, key, parameters, x, infusion, operator=toys.operator, **options):
  return objectives.CRITERIA[name](key, operator, parameters, x, infusion, **options)


@functools.partial(jax.jit, static_argnames="operator")
def visits(key, parameters, x, infusion, operator=toys.operator):
  """Everything the same key's infusion chain saw, and its prediction."""

  transition = Partial(operator, parameters.shared)
  steps = Step(parameters.per_step, jnp.arange(len(infusion.rates)))
  markov = MarkovChain(transition, steps, infusion)
  result = chain.infuse(key, markov, x, record=lambda visit: visit)
  return result.trace, result.prediction


def keys_for(kind):
  key = jax.random.key(7)
  return key if kind == "one key" else jax.random.split(key, B)


@pytest.mark.parametrize("kind", ["one key", "a key per image"])
def test_terms_are_those_of_equation_3_3_3_on_the_states_visited(kind, x64):
  parameters, x, infusion = problem()
  keys = keys_for(kind)
  visit, prediction = visits(keys, parameters, x, infusion)
  ratios = np.zeros((T, B))
  for t in range(T):
    p = Gaussian(visit.before.mean[t], visit.before.variance[t])
    log_p = toys.log_normal(visit.state[t], *p).sum((1, 2, 3))
    log_q = toys.log_mixture(visit.state[t], p, x, RATES[t], 1e-2).sum((1, 2))
    ratios[t] = log_p - log_q
  reconstruction = toys.log_normal(x, *prediction).sum((1, 2, 3))
  np.testing.assert_array_equal(visit.before.mean[0][0], infusion.prior.mean)

  for name in CRITERIA:
    terms = criterion(name, keys, parameters, x, infusion).terms
    assert terms.per_step.shape == (T - 1, B)
    np.testing.assert_allclose(terms.prior, ratios[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(terms.per_step, ratios[1:], rtol=1e-9)
    np.testing.assert_allclose(terms.reconstruction, reconstruction, rtol=1e-9)
    np.testing.assert_allclose(terms.bound, ratios.sum(0) + reconstruction, rtol=1e-9)


def test_rate_zero_costs_nothing_and_rate_one_everything(x64):
  """At rate 0, log p - log q is 0; at rate 1, q is the narrow Gaussian alone."""
  parameters, x, infusion = problem()
  key = keys_for("one key")
  terms = criterion("denoising", key, parameters, x, infusion).terms
  np.testing.assert_allclose(terms.prior, 0, atol=1e-12)
  visit, _ = visits(key, parameters, x, infusion)
  last = jax.tree.map(lambda leaf: leaf[-1], visit)
  expected = toys.log_normal(last.state, *last.before) - toys.log_normal(
    last.state, x, 1e-2
  )
  np.testing.assert_allclose(terms.per_step[-1], expected.sum((1, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize("kind", ["one key", "a key per image"])
@pytest.mark.parametrize("weights", [schedules.loss_weights(T), [0.0, 2.0, 0.5]])
def test_denoising_loss_is_the_weighted_log_density_of_the_image(kind, weights, x64):
  parameters, x, infusion = problem()
  visit, _ = visits(keys_for(kind), parameters, x, infusion)
  log_p = toys.log_normal(x, *visit.after)
  expected = -np.einsum("t,tbhwc->", np.float64(weights), log_p) / x.size
  weights = jnp.asarray(weights)
  result = criterion(
    "denoising", keys_for(kind), parameters, x, infusion, weights=weights
  )
  np.testing.assert_allclose(result.loss, expected, rtol=1e-10)


def test_lower_bound_loss_is_minus_the_bound_per_pixel(x64):
  parameters, x, infusion = problem()
  result = criterion("lower_bound", keys_for("one key"), parameters, x, infusion)
  expected = -np.mean(result.terms.bound) / np.prod(SHAPE)
  np.testing.assert_allclose(result.loss, expected, rtol=1e-12)


# --- Gradients ------------------------------------------------------------------------


def loss_on_fixed_states(operator, parameters, x, states, weights):
  """The whole denoising loss as one function of the parameters."""
  total = 0.0
  for t in range(len(weights)):
    step = Step(toys.row(parameters.per_step, t), t)
    p, _ = operator(parameters.shared, step, states[t])
    total -= weights[t] * log_density(x, p).mean()
  return total


def assert_gradients_close(actual, expected, tolerance):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
  for a, b in pairs:
    scale = np.abs(b).max()
    assert scale > 1e-6
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def test_denoising_gradient_is_that_of_the_whole_loss_with_states_held(x64):
  parameters, x, infusion = problem()
  visit, _ = visits(keys_for("one key"), parameters, x, infusion)
  expected = jax.jit(jax.grad(loss_on_fixed_states, 1), static_argnums=0)(
    toys.operator, parameters, x, visit.state, jnp.asarray(WEIGHTS)
  )
  result = criterion(
    "denoising",
    keys_for("one key"),
    parameters,
    x,
    infusion,
    weights=jnp.asarray(WEIGHTS),
  )
  assert_gradients_close(result.gradient, expected, 1e-12)


def test_denoising_gradient_of_a_flax_network_with_its_batch_norms():
  network = Network(MLP((6, 5)), SHAPE, 2)
  parameters, _ = jax.jit(network.init)(jax.random.key(2))
  parameters = perturbed(parameters)
  _, x, infusion = problem()
  infusion, weights = infusion._replace(rates=infusion.rates[:2]), jnp.ones(2)
  key = keys_for("one key")
  visit, _ = visits(key, parameters, x, infusion, operator=network.train)
  expected = jax.jit(jax.grad(loss_on_fixed_states, 1), static_argnums=0)(
    network.train, parameters, x, visit.state, weights
  )
  result = criterion(
    "denoising", key, parameters, x, infusion, network.train, weights=weights
  )
  assert_gradients_close(result.gradient, expected, 5e-6)
  assert result.gradient.per_step["StepBatchNorm_1"]["scale"].shape == (2, 5)


def perturbed(parameters):
  """Parameters no longer equal from step to step."""
  rng = np.random.default_rng(4)
  return jax.tree.map(
    lambda leaf: leaf + 0.2 * jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype),
    parameters,
  )


@pytest.mark.parametrize("kind", ["one key", "a key per image"])
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("lower_bound", {}),
    ("importance_weighted", {"num_chains": 1}),
    ("importance_weighted", {"num_chains": 3}),
  ],
)
def test_gradient_through_the_chain_matches_finite_differences(
  name, options, kind, x64
):
  """Noise and mask are the key's, so the loss is a smooth function."""
  parameters, x, infusion = problem()
  keys = keys_for(kind)
  gradient = criterion(name, keys, parameters, x, infusion, **options).gradient
  leaves, structure = jax.tree.flatten(parameters)
  rng, step = np.random.default_rng(8), 1e-5
  for i, leaf in enumerate(leaves):
    direction = rng.normal(size=leaf.shape)
    loss = []
    for sign in (-1, 1):
      moved = [*leaves[:i], leaf + sign * step * direction, *leaves[i + 1 :]]
      moved = jax.tree.unflatten(structure, moved)
      loss.append(criterion(name, keys, moved, x, infusion, **options).loss)
    slope = (jax.tree.leaves(gradient)[i] * direction).sum()
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, (loss[1] - loss[0]) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("kind", ["one key", "a key per image"])
@pytest.mark.parametrize("score_free", [False, True])
def test_many_chains_are_averaged_as_weights(kind, score_free, x64):
  parameters, x, infusion = problem()
  found = criterion(
    "importance_weighted",
    keys_for(kind),
    parameters,
    x,
    infusion,
    num_chains=4,
    score_free=score_free,
  )
  log_w = np.asarray(found.terms.bound).reshape(B, 4)
  assert log_w.std(1).min() > 0.01
  expected = scipy.special.logsumexp(log_w, 1) - np.log(4)
  np.testing.assert_allclose(found.loss, -expected.mean() / x[0].size, rtol=1e-10)


@pytest.mark.parametrize("score_free", [False, True])
def test_one_chain_is_the_lower_bound(score_free, x64):
  parameters, x, infusion = problem()
  arguments = keys_for("one key"), parameters, x, infusion
  one = criterion(
    "importance_weighted", *arguments, num_chains=1, score_free=score_free
  )
  expected = criterion("lower_bound", *arguments, score_free=score_free)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12), one, expected
  )


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("lower_bound", {}),
    ("hybrid", {"bound_weight": 1.0, "bound_means": "learned"}),
    ("importance_weighted", {"num_chains": 4}),
  ],
)
def test_gradients_without_the_score_have_the_same_mean(name, options, x64):
  """Paired over many keys: the difference of two estimates has mean 0, and is there."""
  parameters, x, infusion = problem()
  # Wide enough that no weight dominates, and both components of q overlap.
  infusion = infusion._replace(target_variance=0.2, rates=jnp.asarray([0.2, 0.4, 0.3]))

  @jax.jit
  def gradients(key):
    def one(score_free):
      found = objectives.CRITERIA[name](
        key, independent, parameters, x, infusion, score_free=score_free, **options
      )
      return jnp.concatenate([leaf.ravel() for leaf in found.gradient.shared.values()])

    return one(False), one(True)

  keys = jax.random.split(jax.random.key(5), 2000)
  kept, dropped = map(np.asarray, jax.lax.map(gradients, keys, batch_size=500))
  difference = kept - dropped
  error = standard_error(difference)
  assert error.max() > 1e-4
  z = np.abs(difference.mean(0)) / error
  # The largest of some two hundred standard normals; and the mean itself is not 0.
  assert z.max() < 4.5
  assert np.sqrt(np.mean(z**2)) < 1.3
  assert (np.abs(kept.mean(0)) / standard_error(kept)).max() > 20


def independent(shared, step, z):
  """The small network without batch statistics: images do not see each other."""
  flat = z.reshape(z.shape[0], -1)
  hidden = jnp.tanh(flat @ shared["hidden"] + step.index)
  heads = jax.nn.sigmoid(hidden @ shared["heads"])
  mean, variance = (half.reshape(z.shape) for half in jnp.split(heads, 2, 1))
  return Gaussian(mean, 0.05 + 0.3 * variance), {}


@pytest.mark.parametrize("name", CRITERIA)
def test_one_program_runs_every_schedule_and_its_gradients_are_finite(name):
  """Single precision, the thesis's variances, states far from what p expects."""
  parameters, x, infusion = problem()
  traces, losses = [], set()

  def narrow(shared, step, z):
    p, report = toys.operator(shared, step, z)
    return Gaussian(p.mean, jnp.full_like(p.variance, 1e-4) * p.mean), report

  @jax.jit
  def evaluate(parameters, rates):
    traces.append(1)
    changed = infusion._replace(rates=rates, target_variance=1e-4)
    return objectives.CRITERIA[name](
      keys_for("one key"), narrow, parameters, x, changed
    )

  for rate in (0.0, 1e-30, 1e-7, 0.5, 1 - 1e-7, 1.0):
    rates = np.full(T, rate, np.float32)
    result = evaluate(parameters, rates)
    losses.add(float(result.loss))
    for leaf in jax.tree.leaves(result):
      assert np.isfinite(leaf).all()
  evaluate(perturbed(parameters), rates)
  assert len(traces) == 1
  assert len(losses) >= 3


# --- What a criterion returns ---------------------------------------------------------


@pytest.mark.parametrize("name", CRITERIA)
def test_reports_have_one_row_per_step(name, x64):
  parameters, x, infusion = problem()
  key = keys_for("one key")
  report = criterion(name, key, parameters, x, infusion).report
  visit, _ = visits(key, parameters, x, infusion)
  hidden = visit.state.reshape(T, B, -1) @ parameters.shared["hidden"]
  np.testing.assert_allclose(report["mean"], hidden.mean(1), rtol=1e-9)
  np.testing.assert_allclose(report["variance"], hidden.var(1), rtol=1e-9)


@pytest.mark.parametrize("name", CRITERIA)
def test_terms_can_be_left_out_and_the_loop_unrolled(name, x64):
  parameters, x, infusion = problem()
  arguments = (name, keys_for("one key"), parameters, x, infusion)
  expected = criterion(*arguments)
  lean = criterion(*arguments, with_terms=False, unroll=True)
  assert lean.terms is None
  assert isinstance(expected.gradient, Parameters)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
    lean,
    expected._replace(terms=None),
  )


def test_bound_shares_draws_with_the_criteria(x64):
  """One key, one chain: evaluation and training see the same bound."""
  parameters, x, infusion = problem()
  key = keys_for("one key")

  transition = Partial(toys.operator, parameters.shared)
  steps = Step(parameters.per_step, jnp.arange(T))
  markov = MarkovChain(transition, steps, infusion, unroll=2)
  terms, report = jax.jit(lambda key: objectives.bound(key, markov, x))(key)
  result = criterion("denoising", key, parameters, x, infusion)
  np.testing.assert_allclose(terms.bound, result.terms.bound, rtol=1e-9)
  np.testing.assert_allclose(report["mean"], result.report["mean"], rtol=1e-9)


def held(shared, step, z):
  """The small network, no gradient flowing through its means."""
  p, report = toys.operator(shared, step, z)
  return p._replace(mean=jax.lax.stop_gradient(p.mean)), report


@pytest.mark.parametrize("kind", ["constant", "learned"])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_hybrid_is_the_sum_of_both_criteria(kind, weight, x64):
  parameters, x, infusion = problem()
  arguments = keys_for("one key"), parameters, x, infusion
  found = criterion("hybrid", *arguments, bound_weight=weight, bound_means=kind)
  first = criterion("denoising", *arguments)
  operator = toys.operator if kind == "learned" else held
  second = criterion("lower_bound", *arguments, operator)
  expected = jax.tree.map(
    lambda a, b: a + weight * b,
    (first.loss, first.gradient),
    (second.loss, second.gradient),
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
    (found.loss, found.gradient),
    expected,
  )
  np.testing.assert_allclose(found.terms.bound, second.terms.bound, rtol=1e-9)


def test_with_constant_means_the_bound_teaches_variances_alone(x64):
  """The columns of the heads that make means get the denoising gradient alone."""
  parameters, x, infusion = problem()
  key, size = keys_for("one key"), x[0].size

  def heads(name, **options):
    found = criterion(name, key, parameters, x, infusion, **options)
    return found.gradient.shared["heads"]

  plain = heads("denoising")
  mixed = heads("hybrid", bound_weight=1.0, bound_means="constant")
  np.testing.assert_allclose(mixed[:, :size], plain[:, :size], rtol=1e-9)
  assert np.abs(mixed[:, size:] - plain[:, size:]).max() > 1e-3


# --- Memory ---------------------------------------------------------------------------


def program(name, operator, parameters, shape, batch=64):
  """A criterion's results as a function of one argument, and the argument."""
  num_steps = chain.length(parameters.per_step)
  prior = Gaussian(jnp.zeros(shape), jnp.ones(shape))
  x = jnp.zeros((batch, *shape))
  infusion = Infusion(prior, jnp.full(num_steps, 0.1), 1e-4)

  def evaluate(parameters):
    return objectives.CRITERIA[name](
      jax.random.key(0), operator, parameters, x, infusion
    )

  return evaluate, parameters


def test_denoising_stacks_no_images_over_time():
  """Only ratios [T, B], per-step gradients and reports get a time axis."""
  parameters = toys.operator_parameters(10, (8, 8, 1), hidden=16)
  carried, stacked = toys.scan_outputs(
    *program("denoising", toys.operator, parameters, (8, 8, 1))
  )
  assert sorted(stacked) == [(10, 16)] * 4 + [(10, 64)]
  # Mean, variance, loss, and the gradient of the shared weights.
  assert sorted(carried) == sorted([(64, 8, 8, 1)] * 2 + [(), (64, 16), (16, 128)])


def test_denoising_memory_does_not_grow_with_the_number_of_steps():
  def operator(shared, step, z):
    return Gaussian(jnp.tanh(shared * z + step.per_step), jnp.full_like(z, 0.1)), None

  growth = {}
  for name in CRITERIA:
    short, long = (
      toys.temporary_bytes(
        *program(name, operator, Parameters(1.0, jnp.zeros(steps)), (16, 16, 1))
      )
      for steps in (10, 40)
    )
    growth[name] = long / short
  assert growth["denoising"] < 1.1
  assert growth["lower_bound"] > 2
