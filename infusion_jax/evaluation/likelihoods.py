"""Metrics from infusion chains: lower bound, importance sampling, isotropic output."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import likelihood, pixels
from infusion_jax.chain import MarkovChain
from infusion_jax.evaluation.protocol import Measurement
from infusion_jax.evaluation.session import Session, metric
from infusion_jax.likelihood import Estimates, quadrature
from infusion_jax.likelihood import importance as sampled

Array = jax.Array

#: The protocol's word for likelihoods of the integers themselves.
NO_NOISE = "none: probabilities of grey levels"
PyTree = Any

# Linear schedules that the search for a proposal tries.
_ALPHA0 = (0.0, 0.005, 0.01, 0.02, 0.05)
_OMEGA = (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05)


def estimates(
  session: Session,
  markov: MarkovChain,
  name: str,
  label: int | None = None,
) -> dict[str, np.ndarray]:
  """Bound, importance estimate and more of the images, resumed if begun.

  Args:
    session: the session.
    markov: the chain, with the rates of the proposal.
    name: what to call the chains; chains of one name are run once.
    label: given to all images of a model with classes, whatever the protocol says.

  Returns:
    [R, N] arrays by name, in nats: bound, importance, prior, per_step,
    reconstruction; and ess.
  """
  protocol, parts = session.protocol, session.parts
  images = session.images
  rates = np.asarray(markov.infusion.rates).tolist()
  facts = session.described_label if protocol.label != "own" else {}
  key = session.part_key(name, images, rates=rates, chains=protocol.num_chains, **facts)
  done = {(row["repetition"], row["first"]): row for row in parts.get(key)}
  inputs, levels = targets(session, markov, images)
  told = session.told(len(images))
  labels = told if label is None else np.full(len(images), label, np.int32)
  with session.bar(protocol.repetitions * len(images), name) as reached:
    for repetition, first, found in likelihood.estimate_batches(
      session.key("chains"),
      markov,
      inputs,
      levels=levels,
      labels=labels,
      num_chains=protocol.num_chains,
      repetitions=protocol.repetitions,
      skip=lambda *place: place in done,
    ):
      row = {"repetition": repetition, "first": first, **_listed(found)}
      parts.add(key, row)
      done[repetition, first] = row
      reached(sum(len(row["bound"]) for row in done.values()))
  # An earlier launch may have kept pieces of another number of repetitions.
  wanted = [done[place] for place in sorted(done) if place[0] < protocol.repetitions]
  return {
    name: np.concatenate([row[name] for row in wanted]).reshape(-1, len(images))
    for name in wanted[0]
    if name not in ("repetition", "first")
  }


def targets(
  session: Session, markov: MarkovChain, images: np.ndarray
) -> tuple[np.ndarray, int | None]:
  """Images as estimators take them: integers with their levels, or their middles."""
  levels = session.dataset.levels
  if not markov.levels:
    return images, levels
  return np.asarray(pixels.middles(images, levels)), None


def discrete_chain(session: Session) -> MarkovChain:
  """The model's chain, its last transition giving grey levels their probability."""
  session.check_gaussian("discrete", or_multimodal=True)
  return dataclasses.replace(session.markov, levels=session.dataset.levels)


def _listed(found: Estimates) -> dict[str, list[float]]:
  terms = found.terms
  return {
    "bound": found.bound.tolist(),
    "importance": found.importance.tolist(),
    "ess": found.ess.tolist(),
    "prior": terms.prior.tolist(),
    "per_step": terms.per_step.sum(0).tolist(),
    "reconstruction": terms.reconstruction.tolist(),
  }


@metric("bound")
def bound(session: Session) -> list[Measurement]:
  """The lower bound under the rates of training (eq. 3.3.3), and its parts."""
  found = estimates(session, session.markov, "chains")
  parts = {
    name: float(found[name].mean()) for name in ("prior", "per_step", "reconstruction")
  }
  return [
    Measurement.of(
      "bound",
      found["bound"],
      chains_protocol(session),
      {**parts, **bits(session, found["bound"])},
    )
  ]


@metric("importance")
def importance(session: Session) -> list[Measurement]:
  """The importance-sampling estimate under the rates of training (eq. 3.3.2)."""
  found = estimates(session, session.markov, "chains")
  return [_importance("importance", session, found)]


@metric("importance_tuned")
def tuned_importance(session: Session) -> list[Measurement]:
  """The same with the proposal's rates chosen on validation."""
  rates = likelihood.proposal_grid(session.model.network.num_steps, _ALPHA0, _OMEGA)
  trained = _of_steps(session.infusion.rates)[None]
  with session.bar(len(rates) + 1, "proposal", "schedule") as reached:
    table = likelihood.tune_proposal(
      session.key("proposal"),
      session.markov,
      session.search_images,
      np.concatenate([trained, rates]),
      levels=session.dataset.levels,
      labels=session.search_labels,
      num_chains=session.protocol.search_chains,
      progress=lambda done, total: reached(done),
    )
  found = estimates(
    session, session.markov.with_rates(table.best_rates), "tuned chains"
  )
  search = {
    "images": len(session.search_images),
    "chains": session.protocol.search_chains,
    "rates": table.rates.tolist(),
    "importance": table.importance.tolist(),
    "ess": table.ess.tolist(),
    "best": table.best_rates.tolist(),
  }
  rows = [_importance("importance_tuned", session, found, table.best_rates)]
  rows[0].details["search"] = search
  return rows


def _importance(
  name: str, session: Session, found: Mapping[str, np.ndarray], rates: Any = None
) -> Measurement:
  details = {
    "median_ess": float(np.median(found["ess"])),
    **bits(session, found["importance"]),
  }
  return Measurement.of(
    name, found["importance"], chains_protocol(session, rates), details
  )


def chains_protocol(session: Session, rates: Any = None) -> dict[str, Any]:
  """The part of a protocol that all estimates from infusion chains share."""
  rates = session.infusion.rates if rates is None else rates
  return session.described(
    session.images,
    num_chains=session.protocol.num_chains,
    repetitions=session.protocol.repetitions,
    proposal_rates=[round(float(rate), 6) for rate in _of_steps(rates)],
    dequantization=session.dequantization,
    batch_statistics=session.model.about.get("statistics"),
    **session.described_label,
  )


def _of_steps(rates: Any) -> np.ndarray:
  """Rates [T], the means over pixels of those that are [T, H, W, 1]."""
  rates = np.asarray(rates)
  return rates.reshape(len(rates), -1).mean(1)


def bits(session: Session, nats: np.ndarray) -> dict[str, Any]:
  """The mean as bits per dimension, under its usual name."""
  bits = likelihood.bits_per_dimension(
    float(np.mean(nats)), session.model.image_shape, session.dataset.levels
  )
  return {"bits_per_dimension": bits}


@metric("discrete")
def discrete(session: Session) -> list[Measurement]:
  """Bound and importance estimate of the integers, by probabilities of grey levels.

  In the nats of a density that is even within a grey level, log P(v) + D log(levels),
  so that they compare with the others and with `histogram`.
  """
  found = estimates(session, discrete_chain(session), "discrete chains")
  protocol = chains_protocol(session) | {"dequantization": NO_NOISE}
  ess = {"median_ess": float(np.median(found["ess"]))}
  return [
    Measurement.of(
      f"discrete_{name}", found[name], protocol, {**more, **bits(session, found[name])}
    )
    for name, more in (("bound", {}), ("importance", ess))
  ]


@metric("exact")
def exact(session: Session) -> list[Measurement]:
  """The exact log-likelihood of points in the plane, by numerical integration.

  Points are dequantized and given labels as `ais` does it, so that the two compare
  point by point.
  """
  images, lattice = session.images, quadrature.Lattice()
  quadrature.check_two_numbers(session.model.image_shape)
  keys = sampled.image_keys(session.key("ais"), np.arange(len(images)))
  x = sampled.targets(keys, jnp.asarray(images), session.dataset.levels)
  told = session.told(len(images))
  values = quadrature.exact(session.markov, np.asarray(x), lattice, told)
  protocol = session.described(
    images,
    lattice=f"{lattice.size} x {lattice.size} nodes in [{lattice.low}, {lattice.high}]",
    dequantization=session.dequantization,
    batch_statistics=session.model.about.get("statistics"),
    **session.described_label,
  )
  return [Measurement.of("exact", values, protocol, bits(session, values))]


@metric("isotropic")
def isotropic(session: Session) -> list[Measurement]:
  """The importance estimate with one output variance for all pixels (table 3.1)."""
  search = search_isotropic(session)
  markov = likelihood.with_output_variance(session.markov, search.best)
  found = estimates(session, markov, f"isotropic {search.best:.6g}")
  row = _importance("isotropic", session, found)
  row.protocol["output_variance"] = search.best
  row.details["search"] = described_search(session, search)
  return [row]


def search_isotropic(session: Session) -> likelihood.Search:
  """The output variance that is best on validation."""
  session.check_gaussian("isotropic")
  return likelihood.search_output_variance(
    session.key("isotropic"),
    session.markov,
    session.search_images,
    levels=session.dataset.levels,
    num_chains=session.protocol.search_chains,
  )


def described_search(session: Session, search: likelihood.Search) -> dict[str, Any]:
  """A search for the output variance, ready for JSON."""
  return {
    "split": "validation",
    "images": len(session.search_images),
    "chains": session.protocol.search_chains,
    "variances": search.values.tolist(),
    "importance": search.importance.tolist(),
    "closed_form": search.closed_form,
    "closed_form_importance": search.closed_form_importance,
    "best": search.best,
  }
