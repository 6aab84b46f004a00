"""Densities and draws against scipy, double-precision numpy and closed forms."""

import functools

import hypothesis
import hypothesis.extra.numpy
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import toys
from hypothesis import strategies

from infusion_jax import gaussian
from infusion_jax.gaussian import Gaussian

pytestmark = pytest.mark.usefixtures("quick_compile")

RATES = [0.0, 0.02, 0.5, 0.98, 1.0]
NARROW = 1e-4
# Eager JAX compiles every operation of its own; one program each is lighter.
log_mixture = jax.jit(gaussian.mixture_log_density)
mixture_sample = jax.jit(gaussian.mixture_sample)


def random_pixels(shape, seed=0):
  """z, p and target of generic values: z is near p, near the target, or far."""
  rng = np.random.default_rng(seed)
  mean, target = rng.uniform(0, 1, (2, *shape))
  variance = rng.uniform(1e-3, 0.2, shape)
  z = np.where(rng.uniform(size=(*shape[:-1], 1)) < 0.5, mean, target)
  z = z + 0.02 * rng.normal(size=shape)
  p = Gaussian(jnp.asarray(mean), jnp.asarray(variance))
  return jnp.asarray(z), p, jnp.asarray(target)


# --- One Gaussian ---------------------------------------------------------------------


def test_log_density_is_scipys():
  z, p, _ = random_pixels((4, 3, 2, 3))
  expected = scipy.stats.norm.logpdf(z, p.mean, np.sqrt(p.variance))
  np.testing.assert_allclose(gaussian.log_density(z, p), expected, rtol=2e-5, atol=1e-5)


def test_log_density_broadcasts_the_gaussian():
  z, _, _ = random_pixels((4, 3, 2, 3))
  p = Gaussian(jnp.full((3, 2, 3), 0.25), jnp.asarray(0.5))
  expected = scipy.stats.norm.logpdf(z, 0.25, np.sqrt(0.5))
  np.testing.assert_allclose(gaussian.log_density(z, p), expected, rtol=1e-5)


def test_largest_density_of_a_pixel_is_the_known_ceiling():
  """At the variance floor 1e-4 one pixel gives 3.69 nats, not more."""
  value = gaussian.log_density(jnp.asarray(0.5), Gaussian(jnp.asarray(0.5), 1e-4))
  np.testing.assert_allclose(value, 3.6862, atol=1e-4)


@pytest.mark.parametrize("per_image", [False, True])
def test_sample_has_the_gaussians_distribution(key, per_image):
  _, p, _ = random_pixels((1, 3, 2, 2))
  p = jax.tree.map(lambda leaf: jnp.asarray(np.repeat(leaf, 2000, axis=0)), p)
  keys = jax.random.split(key, 2000) if per_image else key
  z = np.asarray(jax.jit(gaussian.sample)(keys, p))
  scores = (z - p.mean) / np.sqrt(p.variance)
  assert scipy.stats.kstest(scores.ravel(), "norm").pvalue > 0.01
  correlation = np.corrcoef(scores.reshape(2000, -1).T) - np.eye(12)
  assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_sample_is_mean_plus_deviation_times_noise(key):
  unit = Gaussian(jnp.zeros((2, 3, 1, 1)), jnp.ones((2, 3, 1, 1)))
  noise = np.asarray(gaussian.sample(key, unit))
  wide = Gaussian(jnp.full(noise.shape, 5.0), jnp.full(noise.shape, 9.0))
  np.testing.assert_allclose(gaussian.sample(key, wide), 5 + 3 * noise, rtol=1e-6)


# --- Draws from the mixture -----------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("per_image", [False, True])
def test_mixture_draws_have_the_mixtures_distribution(key, rate, per_image):
  n, mean, variance, target, narrow = 20_000, 0.3, 0.04, 0.6, 0.01
  p = Gaussian(jnp.full((n, 1, 1, 1), mean), jnp.full((n, 1, 1, 1), variance))
  keys = jax.random.split(key, n) if per_image else key
  z = mixture_sample(keys, p, jnp.full(p.mean.shape, target), rate, narrow).value

  def cdf(value):
    from_p = scipy.stats.norm.cdf(value, mean, np.sqrt(variance))
    from_target = scipy.stats.norm.cdf(value, target, np.sqrt(narrow))
    return (1 - rate) * from_p + rate * from_target

  assert scipy.stats.kstest(np.asarray(z).ravel(), cdf).pvalue > 0.01


@pytest.mark.parametrize("rate", RATES)
def test_mixture_histogram_matches_the_mixture_density(key, rate):
  """Draws and density, each from the library, agree on the narrow peak too."""
  n, bins = 20_000, np.linspace(-1.5, 2.5, 17)
  bins = np.sort(np.r_[bins, 0.7 + np.linspace(-0.03, 0.03, 9)])
  shape = (n, 1, 1, 1)
  p, x = Gaussian(jnp.full(shape, 0.4), jnp.full(shape, 0.2)), jnp.full(shape, 0.7)
  z = mixture_sample(key, p, x, rate, NARROW).value
  observed = np.histogram(np.asarray(z), [-np.inf, *bins, np.inf])[0]

  grid, density = density_on_grid(0.4, 0.2, 0.7, rate)
  area = np.diff(grid) * (density[1:] + density[:-1]) / 2
  middle = (grid[1:] + grid[:-1]) / 2
  expected = n * np.histogram(middle, [-np.inf, *bins, np.inf], weights=area)[0]
  enough = expected > 5
  observed = np.append(observed[enough], observed[~enough].sum() + 5)
  expected = np.append(expected[enough], expected[~enough].sum() + 5)
  statistic = ((observed - expected) ** 2 / expected).sum()
  assert scipy.stats.chi2.sf(statistic, len(expected) - 1) > 0.01


def test_channels_of_a_pixel_share_the_mask_and_pixels_do_not(key):
  shape = (50, 6, 5, 3)
  p = Gaussian(jnp.full(shape, -5.0), jnp.full(shape, 0.01))
  target = jnp.broadcast_to(jnp.arange(3.0), shape)
  value, mask = mixture_sample(key, p, target, 0.3, NARROW)
  assert mask.shape == (50, 6, 5, 1)
  assert mask.dtype == bool
  value, mask = np.asarray(value), np.asarray(mask)
  infused = value > -3
  np.testing.assert_array_equal(infused, np.broadcast_to(mask, shape))
  count = int(mask.sum())
  assert scipy.stats.binomtest(count, mask.size, 0.3).pvalue > 0.01
  # Neighbours, rows and images are independent: pairs agree 58% of the time.
  for axis in (0, 1, 2):
    agree = mask == np.roll(mask, 1, axis)
    assert abs(agree.mean() - 0.58) < 0.07


def test_mask_does_not_depend_on_the_noise(key):
  shape = (4000, 1, 1, 2)
  p = Gaussian(jnp.zeros(shape), jnp.ones(shape))
  value, mask = mixture_sample(key, p, jnp.zeros(shape), 0.5, 1.0)
  mask = np.asarray(mask)[:, 0, 0, 0]
  for part in (value[mask], value[~mask]):
    assert scipy.stats.kstest(np.asarray(part).ravel(), "norm").pvalue > 0.01


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_extreme_rates_take_no_pixel_or_every_pixel(key, rate):
  _, p, target = random_pixels((3, 40, 30, 2))
  value, mask = mixture_sample(key, p, target, rate, 0.0)
  assert (mask == bool(rate)).all()
  if rate:
    np.testing.assert_array_equal(value, target)
  else:
    assert (value != target).all()


def test_draw_is_differentiated_where_it_came_from(key, x64):
  """d value / d (mean, variance, target) = (1 - m, (1 - m) e / 2 s, m)."""
  _, p, target = random_pixels((2, 4, 3, 2))

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1, 2), has_aux=True)
  def gradients_and_draw(p, target, rate):
    drawn = gaussian.mixture_sample(key, p, target, rate, NARROW)
    return drawn.value.sum(), drawn

  (by_p, by_target, by_rate), drawn = gradients_and_draw(p, target, 0.5)
  mask = np.broadcast_to(drawn.mask, target.shape)
  assert 0 < mask.sum() < mask.size
  noise = (np.asarray(drawn.value) - p.mean) / np.sqrt(p.variance)
  np.testing.assert_array_equal(by_p.mean, ~mask)
  np.testing.assert_allclose(
    by_p.variance, ~mask * noise / 2 / np.sqrt(p.variance), rtol=1e-8
  )
  np.testing.assert_array_equal(by_target, mask)
  assert by_rate == 0


# --- The density of the mixture -------------------------------------------------------


def density_on_grid(mean, variance, target, rate):
  """A grid fine on the narrow peak, and the library's density on it."""
  wide = np.linspace(mean - 9 * variance**0.5, mean + 9 * variance**0.5, 6001)
  grid = np.sort(np.r_[wide, target + np.linspace(-0.09, 0.09, 6001)])
  z = jnp.asarray(grid, jnp.float32)[:, None, None, None]
  p = Gaussian(jnp.full(z.shape, mean), jnp.full(z.shape, variance))
  log_q = log_mixture(z, p, jnp.full(z.shape, target), rate, NARROW)
  assert log_q.shape == z.shape[:-1]
  return np.asarray(z, np.float64).ravel(), np.exp(np.asarray(log_q, float).ravel())


@pytest.mark.parametrize("rate", [*RATES, 1e-7, 1 - 1e-7])
@pytest.mark.parametrize(("mean", "variance"), [(0.3, 0.1), (0.8, 1e-4), (0.1, 1e-3)])
def test_mixture_integrates_to_one(rate, mean, variance):
  grid, density = density_on_grid(mean, variance, 0.8, rate)
  np.testing.assert_allclose(scipy.integrate.trapezoid(density, grid), 1, atol=2e-4)
  # Its mean is the mixture's, so neither component has taken the other's weight.
  expected = (1 - rate) * mean + rate * 0.8
  np.testing.assert_allclose(
    scipy.integrate.trapezoid(grid * density, grid), expected, atol=2e-4
  )


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_mixture_over_three_channels_integrates_to_one(rate):
  axis = np.linspace(-1.3, 2.3, 73)
  z = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1)[None]
  z = jnp.asarray(z.reshape(1, 73, -1, 3), jnp.float32)
  mean = jnp.broadcast_to(jnp.asarray([0.4, 0.5, 0.6]), z.shape)
  target = jnp.broadcast_to(jnp.asarray([0.9, 0.1, 0.5]), z.shape)
  p = Gaussian(mean, jnp.full(z.shape, 0.04))
  log_q = log_mixture(z, p, target, rate, 0.01)
  total = np.exp(np.asarray(log_q, np.float64)).sum() * (axis[1] - axis[0]) ** 3
  np.testing.assert_allclose(total, 1, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", RATES)
def test_mixture_density_is_that_of_whole_pixels(channels, rate, x64):
  z, p, target = random_pixels((5, 4, 3, channels))
  value = log_mixture(z, p, target, rate, NARROW)
  expected = toys.log_mixture(z, p, target, rate, NARROW)
  np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)
  if channels > 1 and 0 < rate < 1:
    one_mask_a_channel = toys.log_mixture(
      *jax.tree.map(lambda leaf: leaf[..., None], (z, p, target)), rate, NARROW
    ).sum(-1)
    assert np.abs(value - one_mask_a_channel).max() > 0.1


@pytest.mark.parametrize("compiled", [False, True])
def test_rate_zero_gives_log_p_and_rate_one_the_target_bit_for_bit(compiled):
  z, p, target = random_pixels((5, 4, 3, 3))
  z = z.at[0].add(1e3)

  def sums(p):
    return gaussian.log_density(z, p).sum(-1)

  wrap = jax.jit if compiled else (lambda f: f)
  mixture, sums = wrap(gaussian.mixture_log_density), wrap(sums)
  narrow = Gaussian(target, jnp.asarray(NARROW, z.dtype))
  np.testing.assert_array_equal(mixture(z, p, target, 0.0, NARROW), sums(p))
  np.testing.assert_array_equal(mixture(z, p, target, 1.0, NARROW), sums(narrow))


@pytest.mark.parametrize("rate", [0.0, 1e-7, 0.3, 1 - 1e-7, 1.0])
def test_mixture_gradients_match_finite_differences(rate, x64):
  z, p, target = random_pixels((3, 2, 2, 2))

  # A variance of 1e-4 would make higher derivatives, so differences, enormous.
  arguments = (z, *p, target, jnp.full(z.shape, 0.01))
  jax.test_util.check_grads(
    lambda *a: weighted_total(*a, rate),
    arguments,
    order=1,
    modes=["rev"],
    eps=1e-6,
    rtol=1e-6,
  )


@jax.jit
def weighted_total(z, mean, variance, target, narrow, rate):
  p = Gaussian(mean, variance)
  values = gaussian.mixture_log_density(z, p, target, rate, narrow)
  return (values * jnp.arange(1.0, values.size + 1).reshape(values.shape)).sum()


@pytest.mark.parametrize("rate", [0.0, 1e-7, 0.3, 1 - 1e-7, 1.0])
def test_mixture_gradient_in_the_rate_is_analytic(rate, x64):
  """d/d alpha log[(1 - alpha) p + alpha N] = (N - p) / mixture; N/p - 1 at 0."""
  z, p, target = random_pixels((3, 2, 2, 2))

  density_p = np.exp(toys.log_normal(z, *p).sum(-1))
  density_n = np.exp(toys.log_normal(z, target, 0.01).sum(-1))
  expected = (density_n - density_p) / ((1 - rate) * density_p + rate * density_n)
  slope = rate_slope(z, p, target, rate, 0.01)
  np.testing.assert_allclose(slope, expected, rtol=1e-8)


rate_slope = jax.jit(jax.jacobian(gaussian.mixture_log_density, argnums=3))


EXTREME_RATES = [0.0, 1e-37, 1e-30, 1e-7, 0.5, 1 - 1e-7, 1.0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rate", EXTREME_RATES)
def test_single_precision_survives_extremes(channels, rate):
  """Narrow or wide p, states at p, at the target or far from both."""
  z, mean, variance, target = np.meshgrid(
    [0.0, 0.5, 1.0, 30.0, -1e3, 1e6], [0.0, 0.5], [1e-4, 0.1, 10.0], [0.0, 1.0]
  )
  z, mean, variance, target = (
    jnp.asarray(np.repeat(a.reshape(-1, 1, 1, 1), channels, -1), jnp.float32)
    for a in (z, mean, variance, target)
  )
  rate = np.float32(rate)

  value, gradients = value_and_gradients(z, mean, variance, target, rate)
  expected = toys.log_mixture(
    z, Gaussian(mean, variance), target, float(rate), NARROW
  ).sum((1, 2))
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
  for gradient in gradients:
    assert np.isfinite(gradient).all()


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, 0, 0, None))
@functools.partial(jax.value_and_grad, argnums=range(5))
def value_and_gradients(z, mean, variance, target, rate):
  p = Gaussian(mean, variance)
  return gaussian.mixture_log_density(z, p, target, rate, NARROW).sum()


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_gradient_in_a_rate_shared_by_many_extreme_pixels_is_finite(rate):
  """Each pixel's derivative is finite; so is their sum over an image."""
  shape = (1, 100, 100, 3)
  z = jnp.full(shape, 1.0 - rate)
  p = Gaussian(jnp.zeros(shape), jnp.full(shape, NARROW))

  def total(rate):
    return gaussian.mixture_log_density(z, p, jnp.ones(shape), rate, NARROW).sum()

  slope = jax.jit(jax.grad(total))(rate)
  assert np.isfinite(slope)
  assert slope * (0.5 - rate) > 1e10


@hypothesis.given(strategies.data(), strategies.integers(1, 3))
@hypothesis.settings(max_examples=150)
def test_mixture_density_matches_double_precision(data, channels):
  def pixels(low, high):
    elements = strategies.floats(low, high, width=32, allow_subnormal=False)
    return data.draw(
      hypothesis.extra.numpy.arrays(np.float32, (2, 1, 2, channels), elements=elements)
    )

  z, mean, target = pixels(-2, 3), pixels(0, 1), pixels(0, 1)
  variance = np.exp(pixels(np.float32(-9.25), 1))
  rate = np.float32(data.draw(strategies.floats(0, 1, width=32, allow_subnormal=False)))
  p = Gaussian(mean, variance)
  value = log_mixture(z, p, target, rate, NARROW)
  expected = toys.log_mixture(z, p, target, float(rate), NARROW)
  np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-4)


@hypothesis.given(
  strategies.floats(-700, 700), strategies.floats(-700, 700), strategies.floats(0, 1)
)
def test_log_mix_lies_between_its_components_and_is_symmetric(log_a, log_b, rate):
  log_a, log_b, rate = (np.float32(value) for value in (log_a, log_b, rate))
  value = float(log_mix(log_a, log_b, rate))
  slack = 1e-5 * (1 + abs(value))
  assert min(log_a, log_b) - slack <= value <= max(log_a, log_b) + slack
  mirrored = float(log_mix(log_b, log_a, np.float32(1) - rate))
  if rate == np.float32(1) - (np.float32(1) - rate):
    assert abs(value - mirrored) <= slack


log_mix = jax.jit(gaussian.log_mix)
