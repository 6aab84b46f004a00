"""The measurements of a sweep: test bounds of a group's runs, and pictures of each."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import likelihood, random
from infusion_jax.datasets import Dataset
from infusion_jax.drawing import outputs
from infusion_jax.likelihood import importance
from infusion_jax.sampling import Weights
from infusion_jax.storage import weights as stored
from infusion_jax.sweep import vmapped
from infusion_jax.sweep.ledger import SAMPLES_FILE, Folder, Job
from infusion_jax.terminal.counting import counter
from infusion_jax.training import signals
from infusion_jax.training.state import Recipe, make_recipe

Array = jax.Array

#: Infusion chains of an image and model held at a time.
_CHAIN_CHUNK = 16


def measure(
  folder: Folder, job: Job, dataset: Dataset, asked: Callable[[], bool]
) -> None:
  """Measures the runs of a trained group on test images, and draws from them.

  The numbers are those of `experiments.evaluate` on the run's own folder with the
  same protocol.
  """
  group, protocol = job.group, job.protocol
  recipe = make_recipe(group.configs[0], dataset)
  results = folder.results(group) or []
  runs = [result.run for result in results if result.best_bound is not None]
  measured: dict[str, Any] = {}
  samples: dict[str, np.ndarray] = {}
  if runs:
    weights = _load_weights(folder, runs, recipe)
    how = {
      "network": recipe.network,
      "mesh": vmapped.make_mesh(len(runs)),
      "together": vmapped.chosen_together(job.together),
    }
    bounds_of = functools.partial(vmapped.bounds, **how)
    bounds = _test_bounds(bounds_of, weights, recipe, dataset, job, asked)
    key = random.named(jax.random.key(protocol.seed), "samples")
    keys = jax.random.split(key, protocol.num_samples)
    means = np.asarray(vmapped.sample_means(keys, weights, **how))
    samples = dict(zip(runs, means, strict=False))
    measured = {
      run: {
        "test_bound": summary.mean,
        "standard_error": summary.standard_error,
      }
      for run, summary in zip(runs, map(likelihood.summarize, bounds), strict=False)
    }
  outputs.save_arrays(folder.group(group) / SAMPLES_FILE, samples)
  folder.write_evaluation(group, protocol, measured)


def _load_weights(folder: Folder, runs: Sequence[str], recipe: Recipe) -> Weights:
  """The weights of runs, stacked: leaves [R, ...], or more to fill the devices."""
  rows = [stored.of_run(str(folder.run(run)), recipe.network) for run in runs]
  rows = vmapped.filled_up(rows)
  weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
  return vmapped.spread(weights, vmapped.make_mesh(len(runs)))


def _test_bounds(
  measure: Callable[..., Array],
  weights: Weights,
  recipe: Recipe,
  dataset: Dataset,
  job: Job,
  asked: Callable[[], bool],
) -> np.ndarray:
  """Lower bounds of test images under R models, [R, N] nats."""
  protocol = job.protocol
  images = dataset.test[: protocol.num_images or len(dataset.test)]
  labels = dataset.labels_of("test")
  chunk = min(protocol.num_chains, _CHAIN_CHUNK)
  # As many chains at a time as training has.
  batch = max(1, recipe.batch_size // chunk)
  key = random.named(jax.random.key(protocol.seed), "chains")
  parts = []
  with counter(len(images), "test bound", "image", shown=job.progress) as bar:
    batches = importance.batches(key, images, dataset.levels, 1, batch)
    for _, first, rows, keys, x in batches:
      if asked():
        raise signals.Stopped(
          f"stopped while measuring group {job.group.name}, whose training is saved"
        )
      told = importance.labels_of_batch(labels, first, len(keys))
      found = measure(
        keys, weights, x(), told, num_chains=protocol.num_chains, chunk_size=chunk
      )
      parts.append(np.asarray(found)[:, :rows])
      bar.update(rows)
  return np.concatenate(parts, axis=1)
