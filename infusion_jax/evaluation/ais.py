"""Annealed importance sampling as a metric, with its sandwich."""

import dataclasses
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from infusion_jax import likelihood
from infusion_jax.chain import MarkovChain
from infusion_jax.evaluation import likelihoods
from infusion_jax.evaluation.protocol import Measurement
from infusion_jax.evaluation.session import Session, metric
from infusion_jax.likelihood.annealing import driver as annealing
from infusion_jax.likelihood.annealing import hmc
from infusion_jax.likelihood.annealing.driver import Annealing, Stage, Try
from infusion_jax.likelihood.annealing.estimator import Progress, Schedule, State, Trace
from infusion_jax.storage import files

Array = jax.Array
PyTree = Any

_BATCH = 16
#: Temperatures of the first try in search of a gap.
_FIRST_TRY = 250


@metric("ais")
def ais(session: Session) -> list[Measurement]:
  """Annealed importance sampling of some images, in noise space."""
  return _measure(session, "ais", session.markov, {}, {})


@metric("ais_isotropic")
def ais_isotropic(session: Session) -> list[Measurement]:
  """The same with the isotropic output, as in table 3.1's other rows."""
  search = likelihoods.search_isotropic(session)
  markov = likelihood.with_output_variance(session.markov, search.best)
  details = {"search": likelihoods.described_search(session, search)}
  protocol = {"output_variance": search.best}
  return _measure(session, "ais_isotropic", markov, protocol, details)


@metric("ais_discrete")
def ais_discrete(session: Session) -> list[Measurement]:
  """The same of the integers, by probabilities of grey levels; see `discrete`."""
  markov = likelihoods.discrete_chain(session)
  protocol = {"dequantization": likelihoods.NO_NOISE}
  return _measure(session, "ais_discrete", markov, protocol, {})


def _measure(
  session: Session,
  name: str,
  markov: MarkovChain,
  more: dict[str, Any],
  details: dict[str, Any],
) -> list[Measurement]:
  session.check_gaussian(name)
  asked, more = session.protocol, {**more, **session.described_label}
  settings = Annealing(num_legs=asked.temperatures, num_chains=asked.ais_chains)
  images = session.chosen(min(asked.ais_images, len(session.images)))
  tried = _tries(session, name, markov, settings, more) if asked.ais_gap else []
  if tried:
    settings = dataclasses.replace(settings, num_legs=tried[-1].num_legs)
  key = session.part_key(
    name,
    images,
    repetitions=asked.repetitions,
    # Keeps the setting in the name, so that unfinished work of older versions resumes.
    settings={**dataclasses.asdict(settings), "unroll": 1},
    **more,
  )
  values = _annealed(session, name, key, markov, images, settings)
  protocol = session.described(
    images,
    num_chains=settings.num_chains,
    repetitions=asked.repetitions,
    temperatures=settings.num_legs,
    spacing=settings.temperatures,
    leapfrog_steps=settings.moves.num_leapfrog,
    persistence=settings.moves.persistence,
    acceptance=settings.acceptance,
    batch_statistics=session.model.about.get("statistics"),
    **{"dequantization": session.dequantization, **more},
  )
  found = Measurement.of(
    name, values, protocol, {**details, **likelihoods.bits(session, values)}
  )
  if tried:
    return [found, _found_gap(session, name, tried, protocol)]
  if not asked.sandwich:
    return [found]
  return [found, _sandwich(session, name, markov, settings, protocol)]


def _tries(
  session: Session,
  name: str,
  markov: MarkovChain,
  settings: Annealing,
  more: dict[str, Any],
) -> list[Try]:
  """The search for enough temperatures; after a kill from the last try kept."""
  asked = session.protocol
  settings = dataclasses.replace(settings, num_legs=min(_FIRST_TRY, asked.temperatures))
  facts = {"settings": dataclasses.asdict(settings), "gap": asked.ais_gap, **more}
  key = session.part_key(f"{name} gap", np.zeros(asked.ais_images), **facts)
  done = [Try(**row) for row in session.parts.get(key)]
  with session.bar(0, f"{name}: gap", "try") as reached:
    for found in annealing.tries(
      session.key(f"{name} sandwich"),
      markov,
      settings,
      asked.ais_gap,
      num_images=asked.ais_images,
      batch_size=_BATCH,
      labels=_simulated_labels(session),
      known=tuple(done),
    ):
      session.parts.add(key, found._asdict())
      done.append(found)
      reached(len(done))
  return done


def _found_gap(
  session: Session, name: str, tried: list[Try], protocol: dict[str, Any]
) -> Measurement:
  """The gap that a search ended with, and what the search took."""
  last = tried[-1]
  return Measurement(
    f"{name}_gap",
    last.gap,
    last.error,
    None,
    unit="nats per image",
    protocol={
      **protocol,
      "split": "simulated from the model",
      "num_images": session.protocol.ais_images,
      "gap_wanted": session.protocol.ais_gap,
    },
    details={
      "lower": last.lower,
      "upper": last.upper,
      "reached": last.gap <= session.protocol.ais_gap,
      "seconds": round(sum(each.seconds for each in tried), 1),
      "tries": [{**each._asdict(), "gap": each.gap} for each in tried],
    },
  )


def _annealed(
  session: Session,
  name: str,
  key: str,
  markov: MarkovChain,
  images: np.ndarray,
  settings: Annealing,
) -> np.ndarray:
  """[R, N] estimates; after a kill from the last call that was kept."""
  parts, repetitions = session.parts, session.protocol.repetitions
  stages = Stages(parts.file(f"{key}.npz"), key)
  done = {(row["repetition"], row["first"]): row["estimate"] for row in parts.get(key)}
  size, legs = min(_BATCH, len(images)), settings.num_legs
  places = [(r, n) for r in range(repetitions) for n in range(0, len(images), size)]
  inputs, levels = likelihoods.targets(session, markov, images)
  left = [place for place in places if place not in done]
  with session.bar(repetitions * len(images) * legs, name, "temperature") as reached:
    for batch in annealing.anneal_batches(
      session.key(name),
      markov,
      inputs,
      settings,
      levels=levels,
      labels=session.told(len(images)),
      repetitions=repetitions,
      batch_size=_BATCH,
      skip=lambda *place: place in done,
      resume=stages.read(*left[0]) if left else None,
    ):
      place = batch.repetition, batch.first
      finished = sum(map(len, done.values())) * legs
      if batch.stage.finished:
        row = {"repetition": batch.repetition, "first": batch.first}
        row["estimate"] = batch.estimate.tolist()
        parts.add(key, row)
        done[place] = row["estimate"]
      else:
        stages.write(*place, batch.stage)
      reached(finished + batch.size * int(batch.stage.progress.done))
  stages.clear()
  values = np.concatenate([done[place] for place in places])
  return values.reshape(repetitions, len(images))


def _sandwich(
  session: Session,
  name: str,
  markov: MarkovChain,
  settings: Annealing,
  protocol: dict[str, Any],
) -> Measurement:
  """The gap between forward and reverse annealing on simulated images."""
  count = session.protocol.ais_images
  with session.bar(count, f"{name}: sandwich") as reached:
    both = annealing.evaluate_sandwich(
      session.key(f"{name} sandwich"),
      markov,
      settings,
      num_images=count,
      batch_size=_BATCH,
      labels=_simulated_labels(session),
      progress=lambda done, total: reached(done),
    )
  return Measurement(
    f"{name}_gap",
    *both.gap,
    unit="nats per image",
    protocol={**protocol, "split": "simulated from the model", "num_images": count},
    details={"lower": float(both.lower.mean()), "upper": float(both.upper.mean())},
  )


def _simulated_labels(session: Session) -> np.ndarray | None:
  """Labels of the images that a sandwich simulates: those of as many real ones."""
  count = session.protocol.ais_images
  told = session.told(count)
  return None if told is None else np.resize(told, count)


@dataclasses.dataclass(frozen=True)
class Stages:
  """The one file that says how far the annealing of a batch has come.

  A record of finished batches stands elsewhere, and a kill may come between the two
  writes: the file says which batch of which measurement it belongs to.

  Attributes:
    path: of the file.
    key: names the measurement: model, metric, images and settings.
  """

  path: pathlib.Path
  key: str

  def write(self, repetition: int, first: int, stage: Stage) -> None:
    """Keeps the stage of the batch that begins with image `first`."""
    leaves = {str(n): leaf for n, leaf in enumerate(jax.tree.leaves(stage))}
    with files.replacing(self.path) as stream:
      np.savez(stream, owner=self._owner(repetition, first), **leaves)

  def read(self, repetition: int, first: int) -> Stage | None:
    """The stage of this batch; None if there is none, or none that is whole."""
    try:
      # numpy does not close a damaged file that it opened itself.
      with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
        if kept["owner"] != self._owner(repetition, first):
          return None
        leaves = [kept[str(n)] for n in range(len(kept.files) - 1)]
      return jax.tree.unflatten(_STAGE, leaves)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
      return None

  def clear(self) -> None:
    """Removes the file once all batches are finished."""
    self.path.unlink(missing_ok=True)

  def _owner(self, repetition: int, first: int) -> str:
    return f"{self.key}, repetition {repetition}, images from {first}"


_STAGE = jax.tree.structure(
  Stage(Schedule(0, 0, 0), Progress(0, State(hmc.Point(0, 0, 0, 0), 0), Trace(0, 0)))
)
