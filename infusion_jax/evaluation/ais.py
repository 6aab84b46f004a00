"""Annealed importance sampling as a metric, with its sandwich."""

import dataclasses
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from infusion_jax import chain, likelihood
from infusion_jax.evaluation import likelihoods
from infusion_jax.evaluation.session import Measurement, Session
from infusion_jax.likelihood.annealing import driver as annealing
from infusion_jax.likelihood.annealing import hmc
from infusion_jax.likelihood.annealing.driver import Annealing, Stage
from infusion_jax.likelihood.annealing.estimator import (
  Progress,
  Schedule,
  State,
  Trace,
)
from infusion_jax.storage import files

Array = jax.Array
PyTree = Any
Operator = tuple[chain.Transition, PyTree]

_BATCH = 16


def ais(session: Session) -> list[Measurement]:
  """Annealed importance sampling of the first images, in noise space."""
  return _measure(session, "ais", session.operator, {}, {})


def ais_isotropic(session: Session) -> list[Measurement]:
  """The same with the isotropic output, as in table 3.1's other rows."""
  search = likelihoods.search_isotropic(session)
  operator = likelihood.with_output_variance(*session.operator, search.best)
  details = {"search": likelihoods.described_search(session, search)}
  protocol = {"output_variance": search.best}
  return _measure(session, "ais_isotropic", operator, protocol, details)


def _measure(
  session: Session,
  name: str,
  operator: Operator,
  more: dict[str, Any],
  details: dict[str, Any],
) -> list[Measurement]:
  settings = Annealing(
    num_legs=session.protocol.temperatures, num_chains=session.protocol.ais_chains
  )
  values = _annealed(session, name, operator, settings)
  protocol = _described(session, settings, len(values[0])) | more
  found = Measurement.of(
    name,
    likelihood.summarize(values),
    protocol=protocol,
    details={**details, **likelihoods.bits(session, values)},
  )
  if not session.protocol.sandwich:
    return [found]
  return [found, _sandwich(session, name, operator, settings, protocol)]


def _described(session: Session, settings: Annealing, num_images: int) -> dict:
  return session.described(
    num_images=num_images,
    num_chains=settings.num_chains,
    repetitions=session.protocol.repetitions,
    temperatures=settings.num_legs,
    spacing=settings.temperatures,
    leapfrog_steps=settings.moves.num_leapfrog,
    persistence=settings.moves.persistence,
    acceptance=settings.acceptance,
    dequantization=f"uniform, 1/{session.dataset.levels}",
    batch_statistics=session.model.about.get("statistics"),
  )


def _annealed(
  session: Session, name: str, operator: Operator, settings: Annealing
) -> np.ndarray:
  """[R, N] estimates; after a kill from the last call that was kept."""
  protocol, parts = session.protocol, session.parts
  images = session.images[: protocol.ais_images]
  key = parts.key(name=name, protocol=dataclasses.asdict(protocol))
  path = parts.file(f"{key}.npz")
  done = {(row["repetition"], row["first"]): row["estimate"] for row in parts.get(key)}
  total = protocol.repetitions * len(images) * settings.num_legs
  with session.bar(total, name, "temperature") as bar:
    finished = sum(map(len, done.values())) * settings.num_legs
    for batch in annealing.anneal_batches(
      session.key(name),
      *operator,
      session.infusion.prior,
      images,
      settings,
      levels=session.dataset.levels,
      repetitions=protocol.repetitions,
      batch_size=_BATCH,
      skip=lambda *place: place in done,
      resume=_read(path),
    ):
      bar.update(finished + batch.size * int(batch.stage.progress.done) - bar.n)
      if not batch.stage.finished:
        _write(path, batch.stage)
        continue
      place = {"repetition": batch.repetition, "first": batch.first}
      parts.add(key, {**place, "estimate": batch.estimate.tolist()})
      done[batch.repetition, batch.first] = batch.estimate.tolist()
      finished += batch.size * settings.num_legs
      if path:
        path.unlink(missing_ok=True)
  return np.array(
    [
      [value for place in sorted(done) if place[0] == r for value in done[place]]
      for r in range(protocol.repetitions)
    ]
  )


def _sandwich(
  session: Session,
  name: str,
  operator: Operator,
  settings: Annealing,
  protocol: dict[str, Any],
) -> Measurement:
  """The gap between forward and reverse annealing on simulated images."""
  count = session.protocol.ais_images
  with session.bar(count, f"{name}: sandwich") as bar:
    both = annealing.evaluate_sandwich(
      session.key(f"{name} sandwich"),
      *operator,
      session.infusion.prior,
      settings,
      num_images=count,
      batch_size=_BATCH,
      progress=lambda done, total: bar.update(done - bar.n),
    )
  return Measurement.of(
    f"{name}_gap",
    both.gap,
    protocol={**protocol, "split": "simulated from the model", "num_images": count},
    details={"lower": float(both.lower.mean()), "upper": float(both.upper.mean())},
  )


def _write(path: pathlib.Path | None, stage: Stage) -> None:
  """Keeps how far the annealing of a batch has come."""
  if path:
    leaves = {str(n): leaf for n, leaf in enumerate(jax.tree.leaves(stage))}
    with files.replacing(path) as stream:
      np.savez(stream, **leaves)


def _read(path: pathlib.Path | None) -> Stage | None:
  """What `_write` kept; None if there is nothing, or nothing whole."""
  if path is None or not path.exists():
    return None
  try:
    # numpy leaves a file that it opened itself open if it is damaged.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
      leaves = [kept[str(n)] for n in range(len(kept.files))]
    return jax.tree.unflatten(_STAGE, leaves)
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):
    return None


_STAGE = jax.tree.structure(
  Stage(Schedule(0, 0, 0), Progress(0, State(hmc.Point(0, 0, 0, 0), 0), Trace(0, 0)))
)
