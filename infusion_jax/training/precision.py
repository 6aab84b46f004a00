"""`model.dtype = auto`: whichever of both types takes a step of this run in less time.

The choice is made once, on the devices that begin the run, and recorded in its
configuration: who resumes it gets the same type on any device.
"""

import dataclasses
import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from infusion_jax.config import AUTO, DTYPES, Config
from infusion_jax.datasets import Dataset
from infusion_jax.training import devices, feeds, hosts, workdir
from infusion_jax.training.state import Recipe, initial_state, make_recipe, make_run

#: Seconds of steps in each type, besides compiling them.
_SECONDS = 0.5
#: Seconds of one of several turns, of which the fastest counts.
_TURN_SECONDS = 0.1
#: bfloat16 must be so many times as fast: else float32, which rounds less.
_LEAST_GAIN = 1.05


class Decision(NamedTuple):
  """What a run is trained with.

  Attributes:
    config: without `auto`.
    fact: its type and how it was chosen, for people; empty where it was named.
  """

  config: Config
  fact: str = ""


def decided(
  config: Config, dataset: Dataset, folder: pathlib.Path, mesh: Mesh | None = None
) -> Decision:
  """The configuration that is trained: `auto` is what the folder's run has, or new.

  Args:
    config: as it was asked for.
    dataset: its images.
    folder: the workdir.
    mesh: devices that share every batch.

  Raises:
    UserError: the folder holds something else than a run.
  """
  if config.model.dtype != AUTO:
    return Decision(config)
  recorded = hosts.on_first(lambda: _recorded(folder, config))
  place = hosts.of_first(DTYPES.index(recorded) if recorded in DTYPES else -1)
  if place >= 0:
    return Decision(_with(config, DTYPES[place]), f"{DTYPES[place]}, as it began")
  recipes = {name: make_recipe(_with(config, name), dataset, mesh) for name in DTYPES}
  if len(set(recipes.values())) == 1:
    name = DTYPES[0]
    return Decision(_with(config, name), f"{name}, the only type of this network")
  seconds = {
    name: _seconds_a_step(_with(config, name), recipe, dataset)
    for name, recipe in recipes.items()
  }
  name = chosen(seconds)
  told = " and ".join(f"{n} {1000 * s:.3g} ms a step" for n, s in seconds.items())
  return Decision(_with(config, name), f"{name} of auto ({told})")


def untimed(config: Config) -> Config:
  """With float32 in the place of `auto`: for shapes and counts, which are the same."""
  return _with(config, DTYPES[0]) if config.model.dtype == AUTO else config


def chosen(seconds: dict[str, float]) -> str:
  """The faster type; float32 where bfloat16 gains less than a twentieth."""
  full, half = (seconds[name] for name in DTYPES)
  return DTYPES[int(hosts.of_first(full / half) >= _LEAST_GAIN)]


def _recorded(folder: pathlib.Path, config: Config) -> str | None:
  """The type of the run in a folder; None if there is none yet."""
  if not (folder / workdir.CONFIG_FILE).exists():
    workdir.check(folder, config)
    return None
  return workdir.read_config(folder).model.dtype


def _with(config: Config, dtype: str) -> Config:
  model = dataclasses.replace(config.model, dtype=dtype)
  return dataclasses.replace(config, model=model)


def _seconds_a_step(config: Config, recipe: Recipe, dataset: Dataset) -> float:
  """The least time of a training step, from the first steps of the run."""
  run = devices.copied(make_run(config, dataset), recipe.mesh)
  train = dataset.train, dataset.labels_of("train")
  feed = feeds.make(config.data.stream, recipe, run, *train)
  key = devices.local(run, recipe.mesh).key
  state = devices.copied(initial_state(recipe, key), recipe.mesh)

  def turn(most: int) -> float:
    nonlocal state
    # Always the first steps of an epoch, so that a turn is not cut short by its end.
    state = state._replace(step=jnp.zeros_like(state.step))
    began = time.perf_counter()
    state, size = feed.advance(state, most)
    jax.block_until_ready(state)
    return hosts.of_first((time.perf_counter() - began) / size)

  try:
    turn(1)  # Compiles.
    fastest = turn(1)
    size = max(1, min(len(train[0]) // recipe.batch_size, int(_TURN_SECONDS / fastest)))
    for _ in range(max(1, round(_SECONDS / (size * fastest)))):
      fastest = min(fastest, turn(size))
  finally:
    feed.close()
  return fastest
