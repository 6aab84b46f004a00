"""What is learned: the denoising and the lower-bound criterion, and both together.

All take a `chain.Operator` with its parameters, over the rows of `chain.Step`. All
return loss, gradient, named terms and stacked reports.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from infusion_jax import chain, gaussian, schedules
from infusion_jax.chain import Infusion, MarkovChain, Operator, Parameters, Step, Visit
from infusion_jax.gaussian import Gaussian

Array = jax.Array
PyTree = Any


class Terms(NamedTuple):
  """The terms of one sampled lower bound (eq. 3.3.3), in nats per image.

  Attributes:
    prior: [B], log p^(0)(z~^(0)) - log q^(0)(z~^(0) | x).
    per_step: [T-1, B], log p^(t)(z~^(t) | z~^(t-1)) - log q^(t)(z~^(t) | ...).
    reconstruction: [B], log p^(T)(x | z~^(T-1)).
  """

  prior: Array
  per_step: Array
  reconstruction: Array

  @property
  def bound(self) -> Array:
    """[B], the sum of all terms: one draw of l, whose mean bounds log p(x)."""
    return self.prior + self.per_step.sum(0) + self.reconstruction


class Criterion(NamedTuple):
  """A criterion evaluated on one mini-batch.

  Attributes:
    loss: scalar, in nats per pixel, to be minimised.
    gradient: of the loss, of the parameters' own structure.
    terms: of the bound; None where they were not asked for.
    report: the operator's reports, every leaf [T, ...].
  """

  loss: Array
  gradient: Parameters
  terms: Terms | None
  report: PyTree


def denoising(
  key: Array,
  operator: Operator,
  parameters: Parameters,
  x: Array,
  infusion: Infusion,
  *,
  weights: Array | None = None,
  with_terms: bool = True,
  unroll: int | bool = 1,
  levels: int = 0,
) -> Criterion:
  """The denoising criterion (section 3.3.3.2): every state is to predict x.

      loss = - mean over batch and pixels of sum_t weights[t] log p^(t)(x | z~^(t-1))

  The states are held constant, so the gradient of a step is local to it and is taken
  inside the scan. Memory does not grow with T but for reports and per-step gradients.

  Args:
    key: one key, or [B] keys.
    operator: the transition operator.
    parameters: its parameters.
    x: targets, [B, H, W, C].
    infusion: prior, rates and target variance.
    weights: [T]; None: t / T, as in the thesis (`schedules.loss_weights`).
    with_terms: also evaluate the bound's terms on the way (more arithmetic).
    unroll: of the `MarkovChain`, as is `levels`.
    levels: 0: densities; else probabilities of so many grey levels.
  """
  num_steps = len(infusion.rates)
  weights = schedules.loss_weights(num_steps) if weights is None else weights

  def step_loss(shared, own, index, weight, z):
    p, report = operator(shared, Step(own, index), z)
    total = gaussian.total(gaussian.log_output(x, p, levels))
    return -weight * total / x.size, (p, report)

  def transition(step, z):
    (loss, (p, report)), gradient = jax.value_and_grad(
      step_loss, argnums=(0, 1), has_aux=True
    )(parameters.shared, *step, z)
    return p, (loss, *gradient, report)

  def fold(total, visit):
    loss, shared, _, _ = visit.report
    return jax.tree.map(jnp.add, total, (loss, shared))

  def record(visit):
    _, _, own, report = visit.report
    return own, report, (log_ratio(visit, x, infusion) if with_terms else None)

  zero = jnp.zeros((), x.dtype), jax.tree.map(jnp.zeros_like, parameters.shared)
  steps = (parameters.per_step, jnp.arange(num_steps), jnp.asarray(weights))
  markov = MarkovChain(transition, steps, infusion, unroll, levels)
  prediction, (loss, shared), (own, report, ratios) = chain.infuse(
    key, markov, x, fold=fold, initial=zero, record=record
  )
  terms = _terms(ratios, markov.log_output(x, prediction)) if with_terms else None
  return Criterion(loss, Parameters(shared, own), terms, report)


def lower_bound(
  key: Array,
  operator: Operator,
  parameters: Parameters,
  x: Array,
  infusion: Infusion,
  *,
  with_terms: bool = True,
  unroll: int | bool = 1,
  levels: int = 0,
) -> Criterion:
  """The lower-bound criterion (section 3.3.4.1): the bound itself is maximised.

      loss = - mean over batch of bound / number of pixels

  Gradients flow through the chain's Gaussian draws (reparametrization trick)
  and through log q; the mask is not differentiated. The scan is differentiated
  as a whole, so memory grows with T.

  Args:
    key: one key, or [B] keys.
    operator: the transition operator.
    parameters: its parameters.
    x: targets, [B, H, W, C].
    infusion: prior, rates and target variance.
    with_terms: return the terms, which are computed in any case.
    unroll: of the `MarkovChain`, as is `levels`.
    levels: 0: densities; else probabilities of so many grey levels.
  """
  index = jnp.arange(len(infusion.rates))

  def loss_of(parameters):
    transition = Partial(operator, parameters.shared)
    steps = Step(parameters.per_step, index)
    markov = MarkovChain(transition, steps, infusion, unroll, levels)
    terms, report = bound(key, markov, x)
    return -terms.bound.mean() / x[0].size, (terms, report)

  (loss, (terms, report)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
    parameters
  )
  return Criterion(loss, gradient, terms if with_terms else None, report)


def hybrid(
  key: Array,
  operator: Operator,
  parameters: Parameters,
  x: Array,
  infusion: Infusion,
  *,
  bound_weight: float = 0.1,
  bound_means: str = "constant",
  with_terms: bool = True,
  unroll: int | bool = 1,
  levels: int = 0,
) -> Criterion:
  """Denoising plus a share of the lower bound, on the same chains.

      loss = denoising loss + bound_weight * lower-bound loss

  With constant means the bound teaches variances alone, and denoising the pictures
  (Nichol and Dhariwal, 2021).

  Args:
    key: one key, or [B] keys.
    operator: the transition operator.
    parameters: its parameters.
    x: targets, [B, H, W, C].
    infusion: prior, rates and target variance.
    bound_weight: of the lower bound's loss.
    bound_means: "learned", or "constant": no gradient of the bound flows through the
      means of the transitions.
    with_terms: return the bound's terms, which are computed in any case.
    unroll: of the `MarkovChain`, as is `levels`.
    levels: 0: densities; else probabilities of so many grey levels.
  """

  def held(shared: PyTree, step: Step, z: Array) -> tuple[Gaussian, PyTree]:
    p, report = operator(shared, step, z)
    return p._replace(mean=jax.lax.stop_gradient(p.mean)), report

  options = {"unroll": unroll, "levels": levels}
  inside = held if bound_means == "constant" else operator
  first = denoising(key, operator, parameters, x, infusion, with_terms=False, **options)
  second = lower_bound(key, inside, parameters, x, infusion, **options)
  loss, gradient = jax.tree.map(
    lambda a, b: a + bound_weight * b,
    (first.loss, first.gradient),
    (second.loss, second.gradient),
  )
  terms = second.terms if with_terms else None
  return Criterion(loss, gradient, terms, first.report)


#: Criteria by `train.objective`. To add one, write it and its line here.
CRITERIA = {"denoising": denoising, "lower_bound": lower_bound, "hybrid": hybrid}
#: Those whose gradients flow through the whole chain: their memory grows with T.
THROUGH_TIME = ("lower_bound", "hybrid")
#: Keys of the configuration (`train.NAME`) that a criterion takes as arguments.
OPTIONS = {"hybrid": ("bound_weight", "bound_means")}


def bound(key: Array, markov: MarkovChain, x: Array) -> tuple[Terms, PyTree]:
  """Draws one infusion chain an image and evaluates its bound (eq. 3.3.3).

  Args:
    key: one key, or [B] keys, one per image.
    markov: the chain. Any rates give a valid bound; those of training need not be
      the best.
    x: [B, H, W, C].

  Returns:
    The terms, and the transition's reports with leaves [T, ...].
  """

  def record(visit):
    return log_ratio(visit, x, markov.infusion), visit.report

  prediction, _, (ratios, report) = chain.infuse(key, markov, x, record=record)
  return _terms(ratios, markov.log_output(x, prediction)), report


def log_ratio(visit: Visit, x: Array, infusion: Infusion) -> Array:
  """log p(z) - log q(z | x) of the state drawn at one step, [B] nats."""
  _, rate = visit.inputs
  log_p = gaussian.log_density(visit.state, visit.before)
  log_q = gaussian.mixture_log_density(
    visit.state, visit.before, x, rate, infusion.target_variance
  )
  return gaussian.per_image(log_p) - gaussian.per_image(log_q)


def _terms(ratios: Array, reconstruction: Array) -> Terms:
  """Names the T log-ratios [T, B] and the reconstruction term [B]."""
  return Terms(ratios[0], ratios[1:], reconstruction)
