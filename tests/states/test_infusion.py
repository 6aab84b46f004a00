"""Interpolation as q: against the model chain, closed forms and integration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import chain, objectives
from infusion_jax.chain import Infusion, MarkovChain, Parameters
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance, quadrature
from infusion_jax.states import choices
from infusion_jax.states.infusion import MIXTURE, RATES, Interpolation

Q = Interpolation()
T = 2
NARROW = 1e-2
IMAGE = jnp.array([0.9, -0.4]).reshape(1, 1, 2, 1)


def toy(num_steps=T, shape=(1, 2, 1)):
  return toys.linear_gaussian(num_steps, shape)


def toward(rates, toy):
  infusion = toy.infusion(np.asarray(rates, np.float32))._replace(proposal=Q)
  return MarkovChain(toy.transition, toy.steps, infusion)


def test_at_rate_0_it_is_the_model_chain(key):
  markov, x = toward([0.0, 0.0], toy()), toy().draw(key, 3)
  keys = jax.random.split(key, 3)
  states = chain.infuse(keys, markov, x, record=lambda visit: visit.state).trace
  free = chain.generate(keys, markov, 3, record=lambda visit: visit.state).trace
  np.testing.assert_array_equal(states, free)
  terms, _ = objectives.bound(keys, markov, x)
  np.testing.assert_array_equal(terms.prior, 0.0)
  np.testing.assert_array_equal(terms.per_step, 0.0)


def test_the_rate_is_how_far_the_mean_goes_towards_the_image(key):
  p = Gaussian(jnp.array([[[0.2]]]), jnp.array([[[0.5]]]))
  x, z = jnp.array([[[1.0]]]), jnp.array([[[0.4]]])
  free = p.draw(key) - p.mean
  for rate, mean in ((0.25, 0.4), (1.0, 1.0)):
    drawn = Q.draw(key, p, x, rate, 1e-4)
    np.testing.assert_allclose(drawn.value, mean + free, rtol=1e-6)
    assert drawn.mask is None
    found = Q.log_density(z, p, x, rate, 1e-4)
    np.testing.assert_allclose(found, toys.log_normal(z, mean, 0.5), rtol=1e-6)


def test_the_log_ratio_is_the_divergence_in_the_mean(key):
  """KL(q || p) = sum of rate^2 (x - mean)^2 / (2 variance)."""
  markov, x = toward([0.3, 0.6], toy()), toy().draw(key, 1)
  rows = jnp.repeat(x, 20_000, axis=0)
  terms, _ = objectives.bound(key, markov, rows)
  prior = markov.prior
  expected = -(0.3**2 * (x[0] - prior.mean) ** 2 / (2 * prior.variance)).sum()
  error = terms.prior.std() / np.sqrt(len(rows))
  assert abs(terms.prior.mean() - expected) < 4 * error < 0.05


def bent(step, z):
  """Means that are no linear function of the state, and mix the two numbers."""
  swapped = z[:, :, ::-1]
  return Gaussian(jnp.tanh(2 * z * swapped) + step * z, 0.3 + 0.2 * swapped**2), None


def test_bound_and_importance_sampling_bracket_the_integral(key):
  """Rates of their own for every pixel, on a chain without a closed form."""
  prior = Gaussian(jnp.full((1, 2, 1), 0.2), jnp.full((1, 2, 1), 0.5))
  rates = jnp.array([[0.1, 0.3], [0.4, 0.2]]).reshape(2, 1, 2, 1)
  markov = MarkovChain(bent, jnp.array([0.3, 0.6]), Infusion(prior, rates, 1e-4, Q))
  x = np.array([[0.1, -0.4], [1.0, 0.7]], np.float32).reshape(2, 1, 2, 1)
  exact = quadrature.exact(markov, x, quadrature.Lattice(-5.0, 5.0, 40))
  keys = importance.image_keys(key, np.arange(2))
  terms = importance.log_weights(keys, markov, jnp.asarray(x), jnp.arange(20_000))
  values = np.asarray(terms.bound, np.float64)
  error = values.std(1) / np.sqrt(20_000)
  assert (values.mean(1) < exact - 4 * error).all()
  weights = np.exp(values - np.asarray(exact)[:, None])
  error = weights.std(1) / np.sqrt(20_000)
  assert (np.abs(weights.mean(1) - 1) < 3 * error).all() and (error < 0.05).all()


# --- Learned rates --------------------------------------------------------------------


def expected_with_mixture(toy, x, rates):
  """The bound's expectation of an image [1, 2, 1] by double sums, in float64."""
  return np.stack([_of_pixel(toy, x, rates, place) for place in (0, 1)])


def _of_pixel(toy, x, rates, place):
  toy = jax.tree.map(lambda leaf: np.asarray(leaf[..., 0, place, 0], np.float64), toy)
  x, rates = x[0, place, 0], np.broadcast_to(rates, (2, 1, 2, 1))[:, 0, place, 0]
  nodes = np.linspace(-5, 5, 251)[:, None]
  total, weights, p = 0.0, 1.0, Gaussian(*toy.prior)
  for t, rate in enumerate(rates):
    # Rows: the state before; columns: the state.
    log_q = toys.log_mixture(nodes[None], Gaussian(*p), x, rate, NARROW)
    ratio = toys.log_normal(nodes[None], *p)[..., 0] - log_q
    q = np.exp(log_q) * (nodes[1] - nodes[0])
    total += (weights * (q * ratio).sum(1)).sum()
    weights = (weights * q.T).sum(1)
    slope, offset, noise = (leaf[t] for leaf in toy.steps)
    p = Gaussian((slope * nodes + offset)[:, None], noise)
  return total + weights @ toys.log_normal(x, p.mean[:, 0, 0], noise)


def expected_between(toy, x, rates):
  """The same with the interpolation, in closed form, [1, 2, 1]."""
  mean, variance = (np.asarray(leaf, np.float64) for leaf in toy.prior)
  slope, offset, noise, total = 0.0, mean, variance, 0.0
  at, spread = np.zeros_like(mean), np.zeros_like(mean)
  for t, rate in enumerate(rates):
    # p^(t) has the mean slope z + offset and the variance noise; z has at, spread.
    apart = x - slope * at - offset
    total -= rate**2 * (apart**2 + slope**2 * spread) / (2 * noise)
    at = (1 - rate) * (slope * at + offset) + rate * x
    spread = (1 - rate) ** 2 * slope**2 * spread + noise
    slope, offset, noise = (np.asarray(leaf[t], np.float64) for leaf in toy.steps)
  apart = x - slope * at - offset
  square = (apart**2 + slope**2 * spread) / noise
  return total - 0.5 * (np.log(2 * np.pi * noise) + square)


def learning(shared, step, z):
  return toys.LinearGaussian.transition(step.per_step["own"], z)


def gradients(name, shape, key, batch=2_000, times=10, proposal=Q, **options):
  """Of the loss in what moves the rates, so many times: [R, *shape]."""
  chain_of = toy()
  parameters = Parameters({}, {"own": chain_of.steps, RATES: jnp.zeros(shape)})
  infusion = chain_of.infusion(np.array([0.2, 0.5], np.float32), NARROW)
  rows = jnp.broadcast_to(IMAGE, (batch, 1, 2, 1))

  @jax.jit
  def one(key):
    found = objectives.CRITERIA[name](
      key, learning, parameters, rows, infusion._replace(proposal=proposal), **options
    )
    return found.gradient.per_step[RATES]

  return np.asarray(jax.lax.map(one, jax.random.split(key, times)), np.float64)


@pytest.mark.parametrize("shape", [(2,), (2, 1, 2, 1)])
@pytest.mark.parametrize("score_free", [False, True])
@pytest.mark.parametrize(
  ("proposal", "expectation"), [(Q, expected_between), (MIXTURE, expected_with_mixture)]
)
def test_the_gradient_of_the_rates_is_that_of_the_expectation(
  proposal, expectation, shape, score_free, key
):
  """The mixture's as well, whose choice of pixels no gradient flows through."""
  options = {"proposal": proposal, "score_free": score_free}
  found = gradients("lower_bound", shape, key, **options)
  start = np.log([0.2 / 0.8, 0.5 / 0.5])
  width, expected = 1e-4, np.zeros(shape)
  for place in np.ndindex(shape):
    values = []
    for sign in (1, -1):
      moved = np.zeros(shape)
      moved[place] = sign * width
      logits = start.reshape(-1, 1, 1, 1) + moved.reshape(2, 1, -1, 1)
      rates = 1 / (1 + np.exp(-logits))
      values.append(expectation(toy(), np.asarray(IMAGE[0]), rates).sum())
    # The loss is minus the bound, per pixel.
    expected[place] = -(values[0] - values[1]) / (2 * width) / 2
  error = found.std(0, ddof=1) / np.sqrt(len(found))
  assert (np.abs(found.mean(0) - expected) < 4 * error).all()
  size = np.abs(expected) / error
  assert (size > 5).all() and size.max() > 40


def test_scores_change_nothing_but_the_gradient_of_the_rates(key):
  """The loss, and gradients in the transitions, are those of rates that are given."""
  chain_of, x = toy(), toy().draw(key, 5)
  infusion = chain_of.infusion(np.array([0.2, 0.5], np.float32), NARROW)
  own = {"own": chain_of.steps}
  given, learned = (
    objectives.lower_bound(key, learning, Parameters({}, per_step), x, infusion)
    for per_step in (own, own | {RATES: jnp.zeros(2)})
  )
  np.testing.assert_allclose(learned.loss, given.loss, rtol=1e-6)
  for found, expected in zip(
    learned.gradient.per_step["own"], given.gradient.per_step["own"], strict=True
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_of_one_has_no_baseline():
  ratios, scores = jnp.array([[1.0], [2.0]]), jnp.array([[0.5], [3.0]])
  slope = jax.grad(lambda s: choices.surrogate(ratios, jnp.ones(1), s).sum())(scores)
  np.testing.assert_allclose(slope, [[4.0], [3.0]])


def test_the_doubly_reparametrized_gradient_has_the_same_mean(key):
  plain, doubly = (
    gradients("importance_weighted", (2,), key, num_chains=4, score_free=score_free)
    for score_free in (False, True)
  )
  error = np.sqrt((plain.var(0, ddof=1) + doubly.var(0, ddof=1)) / len(plain))
  assert (np.abs(plain.mean(0) - doubly.mean(0)) < 4 * error).all()
  assert (np.abs(doubly.mean(0)) > 10 * error).all()


def test_rates_move_by_their_logits():
  infusion = toy().infusion(np.array([0.0, 0.5], np.float32))
  assert infusion.learned({"scale": jnp.ones(2)}) is infusion
  still = infusion.learned({RATES: jnp.zeros(2)}).rates
  np.testing.assert_allclose(still, [1e-3, 0.5], rtol=1e-4)
  moved = jnp.array([[0.0, 0.0], [1.0, -1.0]]).reshape(2, 1, 2, 1)
  found = infusion.learned({RATES: moved}).rates
  assert found.shape == (2, 1, 2, 1)
  np.testing.assert_allclose(found[1].ravel(), 1 / (1 + np.exp([-1.0, 1.0])), rtol=1e-5)


def test_a_proposal_is_part_of_a_program_and_no_argument():
  plain = toy().infusion(np.zeros(2))
  assert plain.proposal is MIXTURE
  assert len(jax.tree.leaves(plain)) == 4
  structures = [
    jax.tree.structure(plain._replace(proposal=proposal))
    for proposal in (MIXTURE, Q, Interpolation())
  ]
  assert structures[0] != structures[1] == structures[2]
