"""What is learned: the denoising and the lower-bound criterion, and both together.

All take a `chain.Operator` with its parameters, over the rows of `chain.Step`. All
return loss, gradient, named terms and stacked reports.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from infusion_jax import chain, gaussian, random, schedules
from infusion_jax.chain import Infusion, MarkovChain, Operator, Parameters, Step, Visit
from infusion_jax.gaussian import Distribution
from infusion_jax.states import choices

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
  num_steps, infusion = len(infusion.rates), infusion.learned(parameters.per_step)
  weights = schedules.loss_weights(num_steps) if weights is None else weights

  def step_loss(
    shared: PyTree, own: PyTree, index: Array, weight: Array, z: Array
  ) -> tuple[Array, tuple]:
    p, report = operator(shared, Step(own, index), z)
    return -weight * gaussian.total(p.log_output(x, levels)) / x.size, (p, report)

  def transition(step: tuple, z: Array) -> chain.Answer:
    (loss, (p, report)), gradient = jax.value_and_grad(
      step_loss, argnums=(0, 1), has_aux=True
    )(parameters.shared, *step, z)
    return p, (loss, *gradient, report)

  def fold(total: PyTree, visit: Visit) -> PyTree:
    return jax.tree.map(jnp.add, total, visit.report[:2])

  def record(visit: Visit) -> PyTree:
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
  score_free: bool = False,
  with_terms: bool = True,
  unroll: int | bool = 1,
  levels: int = 0,
) -> Criterion:
  """The lower-bound criterion (section 3.3.4.1): the bound itself is maximised.

      loss = - mean over batch of bound / number of pixels

  Gradients flow through the chain's Gaussian draws (reparametrization trick)
  and through log q; the mask is not differentiated, but for rates that are learned
  (`states.choices`). The scan is differentiated as a whole, so memory grows with T.

  Args:
    key: one key, or [B] keys.
    operator: the transition operator.
    parameters: its parameters.
    x: targets, [B, H, W, C].
    infusion: prior, rates and target variance.
    score_free: leave out of the gradient the score of q, whose mean is 0 (see
      `log_ratio`).
    with_terms: return the terms, which are computed in any case.
    unroll: of the `MarkovChain`, as is `levels`.
    levels: 0: densities; else probabilities of so many grey levels.
  """

  def loss_of(parameters: Parameters) -> tuple[Array, tuple]:
    markov = _chain_of(operator, parameters, infusion, unroll, levels)
    scored = infusion.scored(parameters.per_step)
    terms, report = bound(key, markov, x, score_free=score_free, scored=scored)
    return -terms.bound.mean() / x[0].size, (terms, report)

  (loss, (terms, report)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
    parameters
  )
  return Criterion(loss, gradient, terms if with_terms else None, report)


def _chain_of(
  operator: Operator, parameters: Parameters, infusion: Infusion, *options: Any
) -> MarkovChain:
  """The chain of an operator with these parameters; `options` are unroll, levels."""
  infusion = infusion.learned(parameters.per_step)
  steps = Step(parameters.per_step, jnp.arange(len(infusion.rates)))
  return MarkovChain(Partial(operator, parameters.shared), steps, infusion, *options)


def hybrid(
  key: Array,
  operator: Operator,
  parameters: Parameters,
  x: Array,
  infusion: Infusion,
  *,
  bound_weight: float = 0.1,
  bound_means: str = "constant",
  score_free: bool = False,
  with_terms: bool = True,
  unroll: int | bool = 1,
  levels: int = 0,
) -> Criterion:
  """Denoising plus a share of the lower bound, on the same chains.

      loss = denoising loss + bound_weight * lower-bound loss

  With constant means the bound teaches variances alone, and denoising the pictures
  (Nichol and Dhariwal, 2021). Other arguments are those of `lower_bound`.

  Args:
    bound_weight: of the lower bound's loss.
    bound_means: "learned", or "constant": no gradient of the bound flows through the
      means of the transitions.
  """

  def held(shared: PyTree, step: Step, z: Array) -> tuple[Distribution, PyTree]:
    p, report = operator(shared, step, z)
    return p._replace(mean=jax.lax.stop_gradient(p.mean)), report

  options = {"unroll": unroll, "levels": levels}
  inside = held if bound_means == "constant" else operator
  first = denoising(key, operator, parameters, x, infusion, with_terms=False, **options)
  second = lower_bound(
    key, inside, parameters, x, infusion, score_free=score_free, **options
  )
  loss, gradient = jax.tree.map(
    lambda a, b: a + bound_weight * b,
    (first.loss, first.gradient),
    (second.loss, second.gradient),
  )
  terms = second.terms if with_terms else None
  return Criterion(loss, gradient, terms, first.report)


def importance_weighted(
  key: Array,
  operator: Operator,
  parameters: Parameters,
  x: Array,
  infusion: Infusion,
  *,
  num_chains: int = 5,
  score_free: bool = False,
  with_terms: bool = True,
  unroll: int | bool = 1,
  levels: int = 0,
) -> Criterion:
  """The bound of K infusion chains an image (Burda, Grosse and Salakhutdinov, 2016).

      loss = - mean over batch of log mean_k exp(bound_k) / number of pixels

  With one chain it is `lower_bound`. Batch statistics are those of all K B chains.
  Learned rates whose choices need a score (`Infusion.scored`) are not for it. Other
  arguments are those of `lower_bound`.

  Args:
    num_chains: K.
    score_free: the doubly reparametrized gradient (Tucker et al., 2019), of the same
      mean and less noise with many chains; a step takes the operator's gradient
      three times.
    with_terms: return the terms of all chains, [K B] in place of [B]; they are
      computed in any case.
  """
  size, x = x[0].size, jnp.repeat(x, num_chains, axis=0)
  key = random.split_for_images(key, num_chains)

  def loss_of(parameters: Parameters) -> tuple[Array, tuple]:
    markov = _chain_of(operator, parameters, infusion, unroll, levels)
    if score_free:
      terms, direct, report = _bound_two_ways(key, markov, x)
    else:
      terms, report = bound(key, markov, x)
    log_w = terms.bound.reshape(-1, num_chains)
    value = jax.nn.logsumexp(log_w, axis=1) - math.log(num_chains)
    if score_free:
      share = jax.nn.softmax(jax.lax.stop_gradient(log_w), axis=1)
      direct = direct.reshape(-1, num_chains)
      surrogate = (share * direct + jnp.square(share) * log_w).sum(1)
      value = surrogate + jax.lax.stop_gradient(value - surrogate)
    return -value.mean() / size, (terms, report)

  (loss, (terms, report)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
    parameters
  )
  return Criterion(loss, gradient, terms if with_terms else None, report)


def _bound_two_ways(
  key: Array, markov: MarkovChain, x: Array
) -> tuple[Terms, Array, PyTree]:
  """A bound whose gradient is split, as the doubly reparametrized one needs it.

  Returns:
    The terms, differentiated through the states alone; the bound [B] once more,
    differentiated through the model's densities alone; and the reports [T, ...].
  """
  hold = jax.lax.stop_gradient
  frozen = hold(markov.transition)

  def transition(step: Step, z: Array) -> tuple[Distribution, PyTree]:
    drawn_from, report = markov.transition(step, z)
    through_states, _ = frozen(hold(step), z)
    through_weights, _ = markov.transition(step, hold(z))
    return drawn_from, (through_states, through_weights, report)

  def record(visit: Visit) -> PyTree:
    return visit.state, visit.report

  tripled = dataclasses.replace(markov, transition=transition)
  _, _, (states, reports) = chain.infuse(key, tripled, x, record=record)
  through_states, through_weights, report = reports
  terms = _terms_of_states(states, through_states, markov, x, False)
  direct = _terms_of_states(hold(states), through_weights, markov, x, True)
  return terms, direct.bound, report


def _terms_of_states(
  states: Array, after: Distribution, markov: MarkovChain, x: Array, score_free: bool
) -> Terms:
  """The bound's terms of states [T, B, ...] and the transitions' answers to them."""
  start = chain.repeat_for_batch(markov.prior, x.shape[0])
  before = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b[:-1]]), start, after)

  def ratio(state: Array, before: Distribution, rate: Array) -> Array:
    return _log_ratio(state, before, rate, x, markov.infusion, score_free)

  rates = jax.lax.stop_gradient(markov.infusion.rates)
  ratios = jax.vmap(ratio)(states, before, rates)
  prediction = jax.tree.map(lambda leaf: leaf[-1], after)
  return _terms(ratios, markov.log_output(x, prediction))


#: Criteria by `train.objective`. To add one, write it and its line here.
CRITERIA = {
  "denoising": denoising,
  "lower_bound": lower_bound,
  "hybrid": hybrid,
  "importance_weighted": importance_weighted,
}
#: Those whose gradients flow through the whole chain: their memory grows with T.
THROUGH_TIME = ("lower_bound", "hybrid", "importance_weighted")
#: Keys of the configuration (`train.NAME`) that a criterion takes as arguments.
OPTIONS = {
  "lower_bound": ("score_free",),
  "hybrid": ("bound_weight", "bound_means", "score_free"),
  "importance_weighted": ("num_chains", "score_free"),
}


def bound(
  key: Array,
  markov: MarkovChain,
  x: Array,
  *,
  score_free: bool = False,
  scored: bool = False,
) -> tuple[Terms, PyTree]:
  """Draws one infusion chain an image and evaluates its bound (eq. 3.3.3).

  Args:
    key: one key, or [B] keys, one per image.
    markov: the chain. Any rates give a valid bound; those of training need not be
      the best.
    x: [B, H, W, C].
    score_free: of `log_ratio`; the value stays the same.
    scored: the gradient in the rates knows what is chosen (`states.choices`); the
      value stays the same.

  Returns:
    The terms, and the transition's reports with leaves [T, ...].
  """

  def record(visit: Visit) -> tuple[Array, Array | None, PyTree]:
    ratio = log_ratio(visit, x, markov.infusion, score_free=score_free)
    drawn = visit.state, visit.before, visit.inputs[1]
    score = choices.log_q(*drawn, x, markov.infusion) if scored else None
    return ratio, score, visit.report

  prediction, _, (ratios, scores, report) = chain.infuse(key, markov, x, record=record)
  reconstruction = markov.log_output(x, prediction)
  if scored:
    reconstruction += choices.surrogate(ratios, reconstruction, scores)
  return _terms(ratios, reconstruction), report


def log_ratio(
  visit: Visit, x: Array, infusion: Infusion, *, score_free: bool = False
) -> Array:
  """log p(z) - log q(z | x) of the state drawn at one step, [B] nats.

  Args:
    visit: the step of an infusion chain.
    x: targets, [B, H, W, C].
    infusion: of the chain.
    score_free: no gradient flows through the parameters of q's density, only through
      the state ("sticking the landing", Roeder et al., 2017). That part of the
      gradient has mean 0: given x and the state before, it is the score of q.
  """
  state, before, (_, rate) = visit.state, visit.before, visit.inputs
  return _log_ratio(state, before, rate, x, infusion, score_free)


def _log_ratio(
  z: Array, p: Distribution, rate: Array, x: Array, infusion: Infusion, score_free: bool
) -> Array:
  held = jax.lax.stop_gradient((p, rate)) if score_free else (p, rate)
  log_p, (start, rate) = p.log_density(z), held
  log_q = infusion.proposal.log_density(z, start, x, rate, infusion.target_variance)
  return gaussian.per_image(log_p) - gaussian.per_image(log_q)


def _terms(ratios: Array, reconstruction: Array) -> Terms:
  """Names the T log-ratios [T, B] and the reconstruction term [B]."""
  return Terms(ratios[0], ratios[1:], reconstruction)
