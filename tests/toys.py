"""Small models with known answers, and tools to look into compiled programs.

`LinearGaussian` is a chain whose log p(x) has a closed form for every T. It is
a pytree, its transition is a `chain.Transition`:

    toy = linear_gaussian(num_steps=4)
    x = toy.draw(jax.random.key(0), 8)
    terms, _ = objectives.bound(key, toy.markov(rates=np.full(4, 0.1)), x)
    exact = toy.log_likelihood(x)                                       # [8]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax.chain import Infusion, MarkovChain, Parameters
from infusion_jax.gaussian import Gaussian


class Affine(NamedTuple):
  """One step N(slope z + offset, variance), or T of them with leaves [T, H, W, C]."""

  slope: jax.Array
  offset: jax.Array
  variance: jax.Array


class LinearGaussian(NamedTuple):
  """z^(0) ~ prior; z^(t) ~ N(slope_t z^(t-1) + offset_t, variance_t), t = 1 ... T.

  Pixels are independent, so every marginal is a diagonal Gaussian.

  Attributes:
    prior: mean and variance, [H, W, C].
    steps: leaves [T, H, W, C]; what a chain scans over.
  """

  prior: Gaussian
  steps: Affine

  @staticmethod
  def transition(step: Affine, z):
    """The transition operator, for `chain.run` and `objectives.bound`."""
    variance = jnp.broadcast_to(step.variance, z.shape)
    return Gaussian(step.slope * z + step.offset, variance), None

  @staticmethod
  def labelled_transition(step: Affine, z, label=0):
    """The same, every offset larger by the label, one for each image of z's chains."""
    label = jnp.atleast_1d(label)
    rows = jnp.repeat(label, len(z) // len(label)).reshape(-1, 1, 1, 1)
    return LinearGaussian.transition(step._replace(offset=step.offset + rows), z)

  def given(self, label: float) -> "LinearGaussian":
    """The toy that `labelled_transition` is, given a label."""
    steps = self.steps._replace(offset=self.steps.offset + label)
    return self._replace(steps=steps)

  @property
  def num_steps(self) -> int:
    return len(self.steps.slope)

  def infusion(self, rates, target_variance=1e-2) -> Infusion:
    """The infusion chain's parameters, with this toy's prior."""
    return Infusion(self.prior, jnp.asarray(rates), target_variance)

  def markov(self, rates=None, target_variance=1e-2, transition=None) -> MarkovChain:
    """The chain with infusion rates [T] (0 if None), and perhaps another operator."""
    rates = np.zeros(self.num_steps) if rates is None else rates
    infusion = self.infusion(rates, target_variance)
    return MarkovChain(transition or self.transition, self.steps, infusion)

  def marginal(self, t: int) -> Gaussian:
    """The distribution of z^(t), in closed form; t = T is that of x. Float64."""
    mean, variance = (np.asarray(leaf, np.float64) for leaf in self.prior)
    steps = (np.asarray(leaf, np.float64)[:t] for leaf in self.steps)
    for slope, offset, noise in zip(*steps, strict=True):
      mean = slope * mean + offset
      variance = slope**2 * variance + noise
    return Gaussian(mean, variance)

  def log_likelihood(self, x) -> np.ndarray:
    """log p(x) in nats, [B], exactly."""
    return log_normal(np.asarray(x), *self.marginal(self.num_steps)).sum((1, 2, 3))

  def bound_without_infusion(self, x) -> np.ndarray:
    """E log p(x | z^(T-1)) over the model's own chain: the bound at rate 0, [B]."""
    before = self.marginal(self.num_steps - 1)
    slope, offset, noise = (np.asarray(leaf[-1], np.float64) for leaf in self.steps)
    at_mean = log_normal(np.asarray(x), slope * before.mean + offset, noise)
    return (at_mean - 0.5 * slope**2 * before.variance / noise).sum((1, 2, 3))

  def draw(self, key, num_images: int) -> jax.Array:
    """Images from the toy's own marginal, [B, H, W, C]."""
    p = self.marginal(self.num_steps)
    noise = jax.random.normal(key, (num_images, *p.mean.shape))
    return jnp.asarray(p.mean, noise.dtype) + jnp.sqrt(p.variance) * noise

  def with_output_variance(self, variance: float) -> "LinearGaussian":
    """The same chain, its last transition with another variance (isotropic)."""
    new = self.steps.variance.at[-1].set(variance)
    return self._replace(steps=self.steps._replace(variance=new))


def linear_gaussian(num_steps: int, shape=(2, 2, 1), seed: int = 0) -> LinearGaussian:
  """A toy whose numbers differ from pixel to pixel and from step to step."""
  rng = np.random.default_rng(seed)

  def uniform(low, high, *leading):
    return jnp.asarray(rng.uniform(low, high, (*leading, *shape)))

  return LinearGaussian(
    prior=Gaussian(uniform(-0.5, 0.5), uniform(0.5, 1.0)),
    steps=Affine(
      slope=uniform(0.5, 0.9, num_steps),
      offset=uniform(-0.3, 0.3, num_steps),
      variance=uniform(0.1, 0.3, num_steps),
    ),
  )


def log_normal(x, mean, variance):
  """log N(x; mean, variance) element by element, in numpy's float64."""
  x, mean, variance = (np.asarray(a, np.float64) for a in (x, mean, variance))
  return -0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance)


def log_mixture(z, p: Gaussian, target, rate, target_variance):
  """The infusion mixture pixel by pixel, in numpy's float64 and logaddexp."""
  log_p = log_normal(z, *p).sum(-1)
  log_narrow = log_normal(z, target, target_variance).sum(-1)
  with np.errstate(divide="ignore"):
    return np.logaddexp(np.log1p(-rate) + log_p, np.log(rate) + log_narrow)


def operator(shared, step, z):
  """A small network with per-step batch norm, in the precision of its input.

  A `chain.Operator` in plain arithmetic: the criteria can be checked in
  double precision without any layer of the library.
  """
  own, index, _ = step
  h = z.reshape(z.shape[0], -1) @ shared["hidden"]
  mean, variance = h.mean(0), h.var(0)
  h = own["scale"] * (h - mean) / jnp.sqrt(variance + 1e-4) + own["bias"] + 0.1 * index
  raw = jnp.tanh(h) @ shared["heads"]
  raw_mean, raw_variance = (r.reshape(z.shape) for r in jnp.split(raw, 2, axis=1))
  p = Gaussian(jax.nn.sigmoid(raw_mean), 0.1 * jax.nn.sigmoid(raw_variance) + 1e-2)
  return p, {"mean": mean, "variance": variance}


def operator_parameters(num_steps: int, shape=(2, 3, 1), hidden=4) -> Parameters:
  """Parameters of `operator`, generic enough that no gradient vanishes."""
  rng = np.random.default_rng(1)
  size = int(np.prod(shape))
  shared = {"hidden": (size, hidden), "heads": (hidden, 2 * size)}
  own = {"scale": (num_steps, hidden), "bias": (num_steps, hidden)}
  draw = {name: rng.normal(size=shape) for name, shape in (shared | own).items()}
  draw = {name: jnp.asarray(value) for name, value in draw.items()}
  return Parameters({n: draw[n] for n in shared}, {n: draw[n] for n in own})


def row(tree, t: int):
  """Row t of a tree whose leaves are [T, ...]."""
  return jax.tree.map(lambda leaf: leaf[t], tree)


def scan_outputs(function, *arguments) -> tuple[list, list]:
  """Shapes of what the outermost scan of a program carries, and what it stacks."""
  equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
  (scan,) = _scans(equations)
  carried, stacked = [], []
  for outside, inside in zip(scan.outvars, _inner(scan).outvars, strict=True):
    # What the body returns once a step is stacked by the scan: one axis more.
    kind = carried if outside.aval.ndim == inside.aval.ndim else stacked
    kind.append(outside.aval.shape)
  return carried, stacked


def _scans(equations) -> list:
  found = []
  for equation in equations:
    if equation.primitive.name == "scan":
      found.append(equation)
    elif "jaxpr" in equation.params:
      found += _scans(_inner(equation).eqns)
  return found


def _inner(equation):
  jaxpr = equation.params["jaxpr"]
  return getattr(jaxpr, "jaxpr", jaxpr)


def temporary_bytes(function, *arguments) -> int:
  """Memory a compiled program needs besides its arguments and results."""
  compiled = jax.jit(function).lower(*arguments).compile()
  return compiled.memory_analysis().temp_size_in_bytes
