"""Likelihoods where data and optimal networks are linear and Gaussian: known log p."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from infusion_jax.gaussian import Gaussian
from infusion_jax.peers import (
  DDPM,
  VAE,
  FlowMatching,
  Trained,
  VariationalWalkback,
  diffusion_times,
  flow_matching,
)
from infusion_jax.peers.denoiser import column

SHAPE = (2, 1, 1)
SIZE = 2
#: Of the centred images y = 2 x - 1.
MEAN, VARIANCE = 0.2, 0.3
KEY = jax.random.key(0)


def images(count):
  y = MEAN + math.sqrt(VARIANCE) * jax.random.normal(KEY, (count, *SHAPE))
  return 0.5 * (y + 1)


def log_p(x):
  """log N(x; (MEAN + 1) / 2, VARIANCE / 4), by hand."""
  square = np.square(2 * np.asarray(x) - 1 - MEAN).sum((1, 2, 3)) / VARIANCE
  return -0.5 * (square + SIZE * math.log(2 * math.pi * VARIANCE / 4))


class Exact:
  """The optimal denoiser E[y | y + sigma e] of those images."""

  def denoise(self, parameters, z, sigma):
    noise = column(jnp.square(sigma), z)
    return MEAN + VARIANCE / (VARIANCE + noise) * (z - MEAN)


@dataclasses.dataclass(frozen=True)
class ExactDDPM(Exact, DDPM):
  pass


@dataclasses.dataclass(frozen=True)
class ExactFlow(Exact, FlowMatching):
  pass


TRAINED = Trained(None, Gaussian(jnp.zeros(SHAPE), jnp.ones(SHAPE)))


def test_the_flow_has_the_density_of_the_images():
  x = images(8)
  found = ExactFlow(SHAPE, ()).log_likelihood(KEY, TRAINED, x)
  np.testing.assert_allclose(found, log_p(x), atol=2e-3)


def test_random_directions_estimate_the_divergence_of_a_linear_field():
  """dz/dt = A z has divergence tr A and carries z by a matrix exponential."""
  shape, rate = (16, 8, 1), 0.02
  matrix = rate * np.random.default_rng(0).normal(size=(128, 128))

  def field(z, t):
    return (z.reshape(len(z), -1) @ matrix.T).reshape(z.shape)

  z = jax.random.normal(KEY, (6, *shape))
  keys = jax.random.split(KEY, 6)
  along = functools.partial(flow_matching._random_directions, keys)
  start, divergence = flow_matching._backwards(field, z, along)
  carried = np.asarray(z).reshape(6, -1) @ scipy.linalg.expm(-matrix).T
  np.testing.assert_allclose(np.asarray(start).reshape(6, -1), carried, atol=1e-3)
  error = np.sqrt(np.square(matrix + matrix.T).sum() / 4 / 200)
  assert abs(divergence - np.trace(matrix)).max() < 4 * error
  assert np.ptp(divergence) > 0.1 * error


def test_large_images_have_an_estimated_divergence_and_say_so():
  small, large = FlowMatching(SHAPE, ()), ExactFlow((11, 11, 1), ())
  assert list(small.likelihoods) == ["exact"]
  (name,) = large.likelihoods
  assert name == "unbiased, 4 probes a step"
  y = MEAN + math.sqrt(VARIANCE) * jax.random.normal(KEY, (3, 11, 11, 1))
  found = large.log_likelihood(KEY, TRAINED, 0.5 * (y + 1))
  square = np.square(np.asarray(y) - MEAN).sum((1, 2, 3)) / VARIANCE
  exact = -0.5 * (square + 121 * math.log(2 * math.pi * VARIANCE / 4))
  np.testing.assert_allclose(found, exact, atol=0.1)


@pytest.fixture(scope="module")
def diffusion():
  peer, x = ExactDDPM(SHAPE, ()), images(2000)
  return peer, x, TRAINED._replace(calibration=peer.calibrate(KEY, TRAINED, x))


@pytest.mark.parametrize("num_calls", [1, 15])
def test_the_bound_of_best_steps_is_log_p(num_calls, diffusion):
  """Of Gaussian images one good step is enough; its output has the right variance."""
  peer, x, trained = diffusion
  bound = peer.bound(KEY, trained, x, num_calls=num_calls).mean()
  np.testing.assert_allclose(bound, log_p(x).mean(), atol=0.03)


def kept_by_hand():
  """alpha-bar: a squared cosine, of which a step takes at most 999 of 1,000 parts."""
  angle = [(t / 1000 + 0.008) / 1.008 * math.pi / 2 for t in range(1001)]
  kept = [1.0]
  for before, now in itertools.pairwise(angle):
    kept.append(kept[-1] * max((math.cos(now) / math.cos(before)) ** 2, 0.001))
  return np.array(kept)


def test_the_bound_is_a_sum_of_gaussian_divergences(diffusion):
  """Against the KL divergences of the chain's own Gaussians, step by step."""
  peer, x, trained = diffusion
  y, count = 2 * np.asarray(x, np.float64) - 1, 4
  places = np.asarray(trained.calibration.best[count - 1, :count])
  times = np.append(0, diffusion_times.CANDIDATES[places])
  kept = kept_by_hand()

  def error(t):
    noise = 1 / kept[t] - 1
    return VARIANCE * noise / (VARIANCE + noise)

  last = kept[times[-1]]
  square = np.square(y).sum((1, 2, 3)).mean()
  total = 0.5 * (last * square - SIZE * (last + math.log(1 - last)))
  for s, t in itertools.pairwise(times[1:]):
    ratio = kept[t] / kept[s]
    variance = (1 - ratio) * (1 - kept[s]) / (1 - kept[t])
    gap = kept[s] * ((1 - ratio) / (1 - kept[t])) ** 2 * SIZE * error(t)
    total += gap / (2 * variance)
  total += 0.5 * SIZE * (math.log(2 * math.pi * error(times[1])) + 1)
  found = peer.bound(KEY, trained, x, num_calls=count).mean()
  np.testing.assert_allclose(found, SIZE * math.log(2) - total, atol=0.05)


def test_best_paths_are_those_of_trying_all():
  generator = np.random.default_rng(0)
  error = np.sort(generator.uniform(0.01, 1.0, 7))
  best = diffusion_times.best_paths(error, SIZE)
  snr = diffusion_times.KEPT / (1 - diffusion_times.KEPT + 1e-300)
  snr = snr[diffusion_times.CANDIDATES[:7]]

  def cost(path):
    steps = sum(0.5 * (snr[s] - snr[t]) * error[t] for s, t in itertools.pairwise(path))
    return 0.5 * SIZE * math.log(2 * math.pi * math.e * error[path[0]] / SIZE) + steps

  for calls in range(1, 8):
    paths = [
      [n for n in range(7) if chosen >> n & 1]
      for chosen in range(128)
      if bin(chosen).count("1") == calls and chosen >> 6
    ]
    assert list(best[calls - 1, :calls]) == min(paths, key=cost)


@dataclasses.dataclass(frozen=True)
class LinearVAE(VAE):
  """x = MEAN + 0.5 e + noise of variance 0.1, and the exact posterior of e."""

  def decode(self, parameters, noise):
    return MEAN + 0.5 * noise.reshape(-1, *SHAPE)

  def output_variance(self, parameters):
    return jnp.asarray(0.1)

  def encode(self, parameters, x):
    share = 0.5 / (0.25 + 0.1)
    return Gaussian(
      share * (x - MEAN).reshape(len(x), -1), jnp.asarray(1 - 0.5 * share)
    )


@pytest.mark.parametrize("name", ["bound", "importance, 50 draws"])
def test_the_bound_with_the_exact_posterior_is_log_p(name):
  peer = LinearVAE(SHAPE, (), noise_size=SIZE)
  x = MEAN + math.sqrt(0.35) * jax.random.normal(KEY, (8, *SHAPE))
  found = peer.likelihoods[name](KEY, TRAINED, x)
  square = np.square(np.asarray(x) - MEAN).sum((1, 2, 3)) / 0.35
  exact = -0.5 * (square + SIZE * math.log(2 * math.pi * 0.35))
  np.testing.assert_allclose(found, exact, atol=1e-4)


@dataclasses.dataclass(frozen=True)
class LinearWalkback(VariationalWalkback):
  """s' = MEAN + 0.6 (s - MEAN) + noise, whose walks are the same both ways."""

  def transition(self, parameters, s, temperature):
    return Gaussian(MEAN + 0.6 * (s - MEAN), jnp.asarray(temperature * 0.64 * VARIANCE))


def test_a_reversible_walk_at_one_temperature_has_no_gap():
  peer = LinearWalkback(SHAPE, (), num_steps=4, growth=1.0)
  stationary = Gaussian(jnp.full(SHAPE, MEAN), jnp.full(SHAPE, VARIANCE))
  y = 2 * images(6) - 1
  found = peer.bound(KEY, TRAINED._replace(calibration=stationary), y)
  exact = log_p(images(6)) - SIZE * math.log(2)
  np.testing.assert_allclose(found, exact, atol=1e-4)


def test_a_walk_at_rising_temperatures_gives_a_bound_that_estimates_log_p():
  """E exp(bound) = p(x) of the cooled chain, which for one step is known."""
  peer = LinearWalkback(SHAPE, (), num_steps=1, growth=1.0)
  start = Gaussian(jnp.full(SHAPE, MEAN), jnp.full(SHAPE, 0.2))
  y = 2 * images(3) - 1
  repeated = jnp.repeat(y, 20_000, axis=0)
  found = peer.bound(KEY, TRAINED._replace(calibration=start), repeated)
  estimate = jax.nn.logsumexp(found.reshape(3, -1), axis=1) - math.log(20_000)
  variance = 0.36 * 0.2 + 0.64 * VARIANCE
  square = np.square(np.asarray(y) - MEAN).sum((1, 2, 3)) / variance
  exact = -0.5 * (square + SIZE * math.log(2 * math.pi * variance))
  np.testing.assert_allclose(estimate, exact, atol=0.03)
  assert found.mean() < exact.mean()
