"""Annealed importance sampling as a metric, with its sandwich."""

import dataclasses
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from infusion_jax import chain, files, likelihood
from infusion_jax.evaluation import chains
from infusion_jax.evaluation.session import Measurement, Session
from infusion_jax.likelihood import (
  annealed,
  hmc,
  importance,
  sandwich,
  temperatures,
  tuning,
)
from infusion_jax.likelihood.annealed import Progress, Schedule

Array = jax.Array
PyTree = Any

#: Temperatures of the pilot, whatever those of the annealing that counts.
_PILOT_TEMPERATURES = 200


def ais(session: Session) -> list[Measurement]:
  """Annealed importance sampling of the first images, in noise space."""
  return _measure(session, "ais", session.operator, {})


def ais_isotropic(session: Session) -> list[Measurement]:
  """The same with the isotropic output, as in table 3.1's other rows."""
  search = chains.search_isotropic(session)
  operator = likelihood.with_output_variance(*session.operator, search.best)
  details = {"search": chains.described_search(session, search)}
  return _measure(session, "ais_isotropic", operator, details)


def _measure(
  session: Session,
  name: str,
  operator: tuple[chain.Transition, PyTree],
  details: dict[str, Any],
) -> list[Measurement]:
  images = session.images[: session.protocol.ais_images]
  keys = importance.image_keys(session.key(name), np.arange(len(images)))
  x = importance.targets(keys, images, session.dataset.levels)
  schedule = _tuned(session, name, operator, x)
  state = _anneal(session, name, operator, x, schedule)
  weights = np.asarray(state.log_weight).reshape(len(images), -1)
  found = {
    **details,
    "chains_spread": float(np.median(np.ptp(weights, axis=1))),
    **chains.bits(session, _log_mean(state, len(images))),
  }
  protocol = session.described(
    num_images=len(images),
    num_chains=session.protocol.ais_chains,
    temperatures=session.protocol.temperatures,
    leapfrog_steps=annealed.MOVES.num_leapfrog,
    persistence=annealed.MOVES.persistence,
    dequantization=f"uniform, 1/{session.dataset.levels}",
    batch_statistics=session.model.about.get("statistics"),
  )
  rows = [
    Measurement.of(
      name,
      likelihood.summarize(_log_mean(state, len(images))),
      protocol=protocol,
      details=found,
    )
  ]
  if session.protocol.sandwich:
    rows.append(_sandwich(session, name, operator, protocol))
  return rows


def _sandwich(
  session: Session,
  name: str,
  operator: tuple[chain.Transition, PyTree],
  protocol: dict[str, Any],
) -> Measurement:
  """The gap between forward and reverse annealing on simulated images."""
  count = session.protocol.ais_images
  simulated = sandwich.simulate(
    session.key(f"{name} simulated"), *operator, session.infusion.prior, count
  )
  schedule = _tuned(session, f"{name} sandwich", operator, simulated.x)
  forward = _anneal(session, f"{name} forward", operator, simulated.x, schedule)
  backward = _anneal(
    session,
    f"{name} backward",
    operator,
    simulated.x,
    schedule.backwards(),
    simulated.noise,
  )
  both = sandwich.Sandwich(_log_mean(forward, count), -_log_mean(backward, count))
  return Measurement.of(
    f"{name}_gap",
    both.gap,
    protocol={**protocol, "split": "simulated from the model", "num_images": count},
    details={"lower": float(both.lower.mean()), "upper": float(both.upper.mean())},
  )


def _log_mean(state: annealed.State, num_images: int) -> np.ndarray:
  return np.asarray(annealed.log_mean_weight(state, num_images))


def _tuned(
  session: Session, name: str, operator: tuple[chain.Transition, PyTree], x: Array
) -> Schedule:
  """Temperatures and step sizes from a pilot with random numbers of its own."""
  with session.bar(1, f"{name}: pilot", "pilot"):
    found = tuning.pilot(
      session.key(f"{name} pilot"),
      *operator,
      session.infusion.prior,
      x,
      temperatures.geometric(_PILOT_TEMPERATURES),
      num_chains=session.protocol.ais_chains,
    )
  return tuning.adapted(found, session.protocol.temperatures)


def _anneal(
  session: Session,
  name: str,
  operator: tuple[chain.Transition, PyTree],
  x: Array,
  schedule: Schedule,
  noise: Array | None = None,
) -> annealed.State:
  """Anneals to the end; after a kill from the last chunk that was kept."""
  keys = importance.image_keys(session.key(f"{name} chains"), np.arange(len(x)))
  key = session.parts.key(name=name, protocol=dataclasses.asdict(session.protocol))
  path = session.parts.file(f"{key}.npz")
  progress = _read(path)
  total = session.protocol.temperatures
  with session.bar(total, name, "temperature") as bar:
    bar.update(progress.done if progress else 0)
    rest = annealed.run(
      keys,
      *operator,
      session.infusion.prior,
      x,
      schedule,
      num_chains=session.protocol.ais_chains,
      noise=noise,
      resume=progress,
    )
    for progress in rest:
      _write(path, progress)
      bar.update(progress.done - bar.n)
  return progress.state


def _write(path: pathlib.Path | None, progress: Progress) -> None:
  """Keeps how far an annealing has come."""
  if path:
    leaves = {str(n): leaf for n, leaf in enumerate(jax.tree.leaves(progress))}
    with files.replacing(path) as stream:
      np.savez(stream, **leaves)


def _read(path: pathlib.Path | None) -> Progress | None:
  """What `_write` kept; None if there is nothing."""
  if path is None or not path.exists():
    return None
  blank = Progress(
    0,
    annealed.State(hmc.Point(*range(len(hmc.Point._fields))), 0),
    annealed.Trace(*range(len(annealed.Trace._fields))),
  )
  try:
    with np.load(path, allow_pickle=False) as kept:
      leaves = [kept[str(n)] for n in range(len(kept.files))]
    progress = jax.tree.unflatten(jax.tree.structure(blank), leaves)
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):
    return None  # Damaged: the annealing begins anew.
  return progress._replace(done=int(progress.done))
