"""States of several modes: densities, draws, chains against integration, runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import toys
from jax.tree_util import Partial
from scipy.special import log_softmax, logsumexp

import infusion_jax
from infusion_jax import UserError, chain, gaussian, networks, objectives, sampling
from infusion_jax.chain import Infusion, MarkovChain, Parameters
from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance, quadrature
from infusion_jax.likelihood.annealing.decoder import decoder_of
from infusion_jax.states.infusion import MIXTURE, Interpolation
from infusion_jax.states.multimodal import Multimodal, repeated
from infusion_jax.training import loop

DATA = runs.dataset()
B, K, SHAPE = 4, 3, (2, 3, 2)


def modes():
  """Modes that overlap, so that every one counts in a density."""
  rng = np.random.default_rng(2)
  means, variances = rng.uniform(0.1, 0.6, (2, B, K, *SHAPE))
  return Multimodal(*map(jnp.asarray, (means, variances, rng.normal(size=(B, K)))))


def log_sum(p, each):
  """log sum_c pi_c exp(each_c), [B]; each is [B, K]."""
  return logsumexp(log_softmax(np.asarray(p.logits), -1) + each, axis=-1)


def by_component(p, function):
  """Sums over the pixels of an image of what a component gives, [B, K]."""
  rows = [[function(b, c).sum() for c in range(K)] for b in range(B)]
  return np.array(rows)


# --- Densities and draws --------------------------------------------------------------


def test_densities_are_sums_over_components_of_whole_images(x64):
  p = modes()
  rng = np.random.default_rng(3)
  z, x = jnp.asarray(rng.uniform(size=(2, B, *SHAPE)))
  means, variances = np.asarray(p.means), np.asarray(p.variances)

  def component(b, c):
    return Gaussian(means[b, c], variances[b, c])

  plain = by_component(p, lambda b, c: toys.log_normal(z[b], *component(b, c)))
  np.testing.assert_allclose(p.log_density(z), log_sum(p, plain), rtol=1e-12)
  mixed = by_component(
    p, lambda b, c: toys.log_mixture(z[b], component(b, c), x[b], 0.3, 0.05)
  )
  fit = by_component(p, lambda b, c: toys.log_normal(x[b], *component(b, c)))
  inclined = p._replace(logits=p.logits + 0.3 * fit)
  found = p.mixture_log_density(z, x, 0.3, 0.05)
  np.testing.assert_allclose(found, log_sum(inclined, mixed), rtol=1e-12)
  for levels, share in ((0, 0.0), (8, 0.0), (8, 0.1)):

    def output(b, c, levels=levels, share=share):
      log_p = gaussian.log_output(x[b], component(b, c), levels)
      return gaussian.with_outliers(log_p, x[b], share)

    expected = log_sum(p, by_component(p, output))
    found = p.log_output(x, levels, share)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_moments_are_those_of_the_mixture(x64):
  p = modes()
  shares = np.exp(log_softmax(np.asarray(p.logits), -1))[..., None, None, None]
  mean = (shares * p.means).sum(1)
  square = (shares * (p.variances + p.means**2)).sum(1)
  np.testing.assert_allclose(p.mean, mean, rtol=1e-12)
  np.testing.assert_allclose(p.variance, square - mean**2, rtol=1e-9)


def two_pixels(spacing=0.04, reach=2.5):
  """A grid of images of two pixels [G^2, 1, 2, 1], and the area of a cell."""
  axis = np.arange(-reach, reach, spacing)
  nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
  return nodes.reshape(-1, 1, 2, 1), spacing**2


def pair(logit=0.7):
  """Two narrow modes at opposite corners of two pixels; leaves [1, 2, 1, 2, 1]."""
  means = jnp.array([[-0.6, 0.5], [0.7, -0.4]]).reshape(1, 2, 1, 2, 1)
  return Multimodal(means, jnp.full_like(means, 0.04), jnp.array([[0.0, logit]]))


@pytest.mark.parametrize("proposal", [MIXTURE, Interpolation()])
def test_densities_integrate_to_one(proposal):
  nodes, cell = two_pixels()
  x = jnp.full((1, 1, 2, 1), 0.2)
  inside = cell * jnp.exp(pair().log_density(jnp.asarray(nodes))).sum()
  np.testing.assert_allclose(inside, 1.0, rtol=1e-5)
  log_q = proposal.log_density(jnp.asarray(nodes), pair(), x, 0.3, 0.02)
  np.testing.assert_allclose(cell * jnp.exp(log_q).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("kind", ["one key", "a key per image"])
def test_a_component_is_drawn_for_all_pixels_of_an_image(kind, key):
  count = 4_000
  p = jax.tree.map(lambda leaf: jnp.repeat(leaf, count, axis=0), pair())
  keys = key if kind == "one key" else jax.random.split(key, count)
  z = p.draw(keys)
  # The modes lie 3 deviations from the diagonal: pixels of one image agree.
  first = np.asarray(z[:, 0, 0, 0] < z[:, 0, 1, 0])
  share = 1 / (1 + np.exp(0.7))
  assert abs(first.mean() - share) < 4 * np.sqrt(share * (1 - share) / count)
  mean = np.asarray(z)[first].mean(0).ravel()
  np.testing.assert_allclose(mean, [-0.6, 0.5], atol=4 * 0.2 / np.sqrt(share * count))
  drawn = p.settled(keys)
  assert isinstance(drawn, Gaussian)
  assert abs((drawn.mean[:, 0, 0, 0] < 0).mean() - share) < 0.04


def test_infusion_takes_pixels_of_the_image_and_leaves_the_others(key):
  p = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2_000, axis=0), pair())
  x = jnp.full((2_000, 1, 2, 1), 9.0)
  value, mask = p.mixture_draw(key, x, 0.25, 1e-6)
  np.testing.assert_allclose(np.asarray(value)[mask], 9.0, atol=0.01)
  assert (np.asarray(value)[~mask] < 3).all()
  assert abs(mask.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4_000)


@pytest.mark.parametrize("proposal", [MIXTURE, Interpolation()])
def test_an_image_makes_components_probable_that_fit_it(proposal, key):
  p = jax.tree.map(lambda leaf: jnp.repeat(leaf, 4_000, axis=0), pair())
  x = jnp.broadcast_to(jnp.array([-0.2, 0.3]).reshape(1, 2, 1), (4_000, 1, 2, 1))
  fit = toys.log_normal(x[0], pair().means[0], 0.04).sum((1, 2, 3))
  rate = 0.05
  z = proposal.draw(key, p, x, rate, 1e-6).value
  # Means 3 deviations from the diagonal, moved by a twentieth; few pixels are of x.
  first = (z[:, 0, 0, 0] < z[:, 0, 1, 0]).mean()
  logit = 0.7 + rate * (fit[1] - fit[0])
  share = 1 / (1 + np.exp(logit))
  assert abs(share - 1 / (1 + np.exp(0.7))) > 0.1
  assert abs(first - share) < 0.05


def test_rates_of_pixels_are_powers_of_their_own(x64):
  p, x = modes(), jnp.full((B, *SHAPE), 0.4)
  rate = jnp.asarray(np.random.default_rng(4).uniform(size=(*SHAPE[:2], 1)))
  fit = toys.log_normal(x[:, None], p.means, p.variances)
  expected = p.logits + (np.asarray(rate) * fit).sum((2, 3, 4))
  np.testing.assert_allclose(p.inclined(x, rate).logits, expected, rtol=1e-12)


def test_one_component_has_the_bits_of_a_gaussian(key):
  p = modes()
  one = Gaussian(p.means[:, 0], p.variances[:, 0])
  same = Multimodal(p.means[:, :1], p.variances[:, :1], p.logits[:, :1])
  x = jnp.full((B, *SHAPE), 0.4)
  np.testing.assert_array_equal(same.draw(key), one.draw(key))
  for found, expected in zip(
    same.mixture_draw(key, x, 0.3, 0.1), one.mixture_draw(key, x, 0.3, 0.1), strict=True
  ):
    np.testing.assert_array_equal(found, expected)
  expected = gaussian.per_image(one.log_density(x))
  np.testing.assert_allclose(same.log_density(x), expected, rtol=1e-6)


def test_guidance_goes_from_one_prediction_to_the_other():
  p = modes()
  other = jax.tree.map(lambda leaf: 0.9 * leaf + 0.05, p)
  for guidance, end in ((0.0, p), (1.0, other)):
    found = p.toward(other, jnp.asarray(guidance))
    for leaf, expected in zip(found, end, strict=True):
      np.testing.assert_allclose(leaf, expected, rtol=1e-6)


def test_gradients_are_finite_where_a_component_is_impossible():
  far = pair()._replace(means=pair().means * 200)
  loss, gradient = jax.value_and_grad(
    lambda p: p.mixture_log_density(far.means[:, 0], pair().means[:, 0], 0.1, 1e-4)[0]
  )(far)
  assert jnp.isfinite(loss)
  assert all(jnp.isfinite(leaf).all() for leaf in gradient)


# --- Chains ---------------------------------------------------------------------------


def bent(step, z):
  """Modes, widths and probabilities that depend on both pixels of the state."""
  swapped = z[:, :, ::-1]
  means = jnp.stack([step * z + 0.3 * swapped - 0.4, 0.6 - z * swapped], 1)
  variances = jnp.stack([0.1 + 0.1 * z**2, 0.15 + 0.0 * z], 1)
  logits = jnp.stack([2 * z[:, 0, 0, 0], z[:, 0, 1, 0]], 1)
  return Multimodal(means, variances, logits), None


def markov(rates=(0.0, 0.0), proposal=MIXTURE):
  prior = Gaussian(jnp.full((1, 2, 1), 0.2), jnp.full((1, 2, 1), 0.3))
  infusion = Infusion(repeated(prior, 2), jnp.asarray(rates), 0.05, proposal)
  return MarkovChain(bent, jnp.array([0.5, -0.8]), infusion)


@pytest.fixture(scope="module")
def exact():
  """log p(x) of two images by the sum over z^(0) and z^(1), in float64."""
  nodes, cell = two_pixels(0.16, 3.2)
  x = np.array([[0.9, -0.3], [-0.2, 0.4]]).reshape(2, 1, 2, 1)
  weights = cell * np.exp(toys.log_normal(nodes, 0.2, 0.3).sum((1, 2, 3)))

  def carried(step, states):
    """log p(state | node), [N nodes, M states]."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), bent(step, nodes)[0])
    each = [
      toys.log_normal(states[None], p.means[:, c, None], p.variances[:, c, None])
      for c in range(2)
    ]
    each = np.stack([part.sum((2, 3, 4)) for part in each])
    return logsumexp(log_softmax(p.logits, -1).T[:, :, None] + each, axis=0)

  weights = cell * weights @ np.exp(carried(0.5, nodes))
  np.testing.assert_allclose(weights.sum(), 1.0, atol=1e-3)
  return x, np.log(weights @ np.exp(carried(-0.8, x)))


@pytest.mark.parametrize("proposal", [MIXTURE, Interpolation()])
def test_bound_and_importance_sampling_bracket_the_integral(proposal, exact, key):
  x, log_p = exact
  keys, count = importance.image_keys(key, np.arange(2)), 20_000
  toy, targets = markov((0.1, 0.3), proposal), jnp.asarray(x, jnp.float32)
  terms = importance.log_weights(keys, toy, targets, jnp.arange(count))
  values = np.asarray(terms.bound, np.float64)
  error = values.std(1) / np.sqrt(count)
  assert (values.mean(1) < log_p - 4 * error).all()
  weights = np.exp(values - log_p[:, None])
  error = weights.std(1) / np.sqrt(count)
  assert (np.abs(weights.mean(1) - 1) < 3 * error).all() and (error < 0.05).all()


def test_a_picture_is_the_mean_of_a_component_that_is_drawn(key):
  keys, last = jax.random.split(key, 200), -0.8
  states = chain.generate(keys, markov(), 200, record=lambda visit: visit.state).trace
  modes = bent(last, states[-1])[0].means
  prediction = sampling.predict(markov(), keys)
  assert isinstance(prediction, Gaussian)
  same = (np.asarray(prediction.mean)[:, None] == np.asarray(modes)).all((2, 3, 4))
  assert (same.sum(1) == 1).all() and (same.mean(0) > 0.1).all()
  chains = sampling.chains(markov(), keys)
  np.testing.assert_array_equal(chains.means[-1], prediction.mean)
  np.testing.assert_array_equal(chains.variances[-1], prediction.variance)
  known = jnp.array([[True], [False]])
  image = jnp.full((200, 1, 2, 1), 0.25)
  found = sampling.inpaint(markov(), keys, image, known)
  clamped = sampling.clamped_chains(markov(), keys, image, known)
  np.testing.assert_array_equal(found[:, :, 1], clamped.means[-1][:, :, 1])


def test_denoising_teaches_the_density_of_whole_images(key, x64):
  """Its loss on the states it visits, and the gradient with these states held."""
  slopes, shared, x = jnp.array([0.5, -0.8]), np.array([1.0, -0.5]), np.full(6, 0.3)
  x, infusion = jnp.asarray(x.reshape(3, 1, 2, 1)), markov((0.2, 0.4)).infusion

  def operator(shared, step, z):
    p, _ = bent(step.per_step, z)
    return p._replace(logits=shared * p.logits), None

  parameters = Parameters(jnp.asarray(shared), slopes)
  found = objectives.denoising(key, operator, parameters, x, infusion)
  steps = chain.Step(slopes, jnp.arange(2))
  toy = MarkovChain(Partial(operator, parameters.shared), steps, infusion)
  states = chain.infuse(key, toy, x, record=lambda visit: visit.state).trace

  def loss(shared):
    total = 0.0
    for t, weight in enumerate((0.5, 1.0)):
      means, variances, logits = bent(slopes[t], states[t])[0]
      each = toys.log_normal(x[:, None], means, variances).sum((2, 3, 4))
      log_p = logsumexp(log_softmax(shared * np.asarray(logits), -1) + each, axis=-1)
      total -= weight * log_p.sum() / x.size
    return total

  np.testing.assert_allclose(found.loss, loss(shared), rtol=1e-9)
  for place in range(2):
    step = 1e-5 * np.eye(2)[place]
    slope = (loss(shared + step) - loss(shared - step)) / 2e-5
    np.testing.assert_allclose(found.gradient.shared[place], slope, rtol=1e-6)


def test_what_follows_one_gaussian_refuses():
  with pytest.raises(UserError, match="Multimodal; numerical integration"):
    quadrature.whole(markov())
  with pytest.raises(UserError, match="Multimodal; annealing"):
    decoder_of(markov())


# --- Networks and runs ----------------------------------------------------------------


def config(latents=3, **train):
  made = runs.config(**train)
  return dataclasses.replace(
    made, model=dataclasses.replace(made.model, latents=latents)
  )


def test_a_perceptron_starts_with_different_modes_of_equal_probability(key):
  built = networks.build(
    ModelConfig(hidden_sizes=(8,), latents=3), ChainConfig(num_steps=2), (4, 4, 1)
  )
  parameters, statistics = built.init(key)
  step = toys.row(built.steps(parameters.per_step, statistics), 0)
  z = jax.random.uniform(key, (5, 4, 4, 1))
  p, _ = built.fixed(parameters.shared, step, z)
  assert isinstance(p, Multimodal)
  assert p.means.shape == p.variances.shape == (5, 3, 4, 4, 1)
  np.testing.assert_array_equal(p.logits, np.zeros((5, 3)))
  assert np.abs(np.diff(np.asarray(p.means), axis=1)).max(axis=(2, 3, 4)).min() > 0.05


@pytest.mark.parametrize(
  ("model", "named"),
  [
    ({"name": "conv"}, "network 'conv'"),
    ({"self_conditioning": True}, "self_conditioning = True"),
  ],
)
def test_other_networks_refuse_modes(model, named):
  model = ModelConfig(**{"channels": (8, 8), "latents": 2, **model})
  with pytest.raises(UserError, match=f"latents is 2.*{named}"):
    networks.build(model, ChainConfig(), (8, 8, 1))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("modes") / "run"
  loop.fit(config(num_epochs=2), DATA, folder, progress=False)
  return folder


def test_a_run_is_trained_and_resumed(workdir, tmp_path):
  for epochs in (1, 2):
    loop.fit(config(num_epochs=epochs), DATA, tmp_path, progress=False)
  assert runs.rows(tmp_path) == runs.rows(workdir)


def test_a_run_is_loaded_sampled_and_measured(workdir, tmp_path, key):
  model = infusion_jax.load(workdir)
  prior = model.weights.infusion.prior
  assert isinstance(prior, Multimodal) and prior.means.shape == (3, 4, 4, 1)
  assert model.sample(key, 2).shape == (2, 4, 4, 1)
  session = Session(model, DATA, Protocol(num_images=4, num_chains=2), tmp_path, False)
  (bound,) = session.measure("bound")
  assert np.isfinite(bound["value"])
  session.check_gaussian("discrete", or_multimodal=True)
  with pytest.raises(UserError, match="one mode.*model.latents = 3"):
    session.check_gaussian("ais")


def test_a_group_of_runs_has_its_structure():
  shapes = runs.group_shapes(config(), DATA)
  assert shapes.shared["modes"]["kernel"].shape == (2, 8, 3)
