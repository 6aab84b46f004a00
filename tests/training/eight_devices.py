"""One run on 1 and 8 devices: run by `test_devices` in a process of its own.

Losses and gradients are compared, and metrics of whole trainings; parameters after
Adam are not: it divides by gradients whose rounding is their only digit.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from infusion_jax import objectives
from infusion_jax.errors import UserError
from infusion_jax.training import devices, feeds, loop, metrics_log, programs
from infusion_jax.training.state import initial_state, make_recipe, make_run

BATCH = 16


@pytest.fixture(scope="module")
def mesh():
  return devices.make_mesh(8, BATCH)


def assert_close(a, b, digits=1e-5):
  """Leaf by leaf, relative to the leaf's largest number."""
  names = jax.tree_util.tree_leaves_with_path(a)
  for (path, x), y in zip(names, jax.tree.leaves(b), strict=True):
    x, y = np.asarray(x), np.asarray(y)
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(x, y, rtol=0, atol=digits * abs(x).max(), err_msg=name)


@pytest.mark.parametrize("count", [8, 11, 200])
def test_a_batch_is_looked_up_where_its_images_are(mesh, count):
  """Fewer images a device than the batch has, and more."""
  images = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1), np.uint8)
  numbers = np.random.default_rng(1).integers(0, count, BATCH).astype(np.int32)
  look_up = jax.jit(lambda images, numbers: devices.taken(images, numbers, mesh))
  found = look_up(devices.shared(images, mesh), numbers)
  np.testing.assert_array_equal(found, images[numbers])
  assert {shard.data.shape for shard in found.addressable_shards} == {(2, 4, 4, 1)}


@pytest.mark.parametrize("objective", ["denoising", "lower_bound"])
def test_loss_gradient_and_batch_statistics_are_the_whole_batchs(mesh, objective):
  config, data = runs.config(objective=objective), runs.dataset()
  recipe, run = make_recipe(config, data), make_run(config, data)
  parameters, _ = recipe.network.init(jax.random.key(1))
  x = jax.random.uniform(jax.random.key(2), (BATCH, 4, 4, 1))

  def criterion(mesh):
    @jax.jit
    def evaluate(parameters, x):
      return objectives.CRITERIA[objective](
        jax.random.key(3),
        recipe.network.train,
        parameters,
        devices.split(x, mesh),
        run.infusion,
      )

    return evaluate(*devices.copied((parameters, x), mesh))

  one, eight = criterion(None), criterion(mesh)
  assert len(eight.loss.sharding.device_set) == 8
  assert_close(one, eight)
  # A device's own two images have other statistics than all sixteen.
  mean, variance = (
    np.asarray(eight.report["StepBatchNorm_0"][name]) for name in ("mean", "variance")
  )
  assert np.ptp(mean) > 0.1 and variance.min() > 0


def test_a_training_step_changes_the_state_as_one_device_does(mesh):
  config, data = runs.config(), runs.dataset()
  run = make_run(config, data)

  def after(mesh):
    recipe = make_recipe(config, data, mesh)
    state = devices.copied(initial_state(recipe, run.key), mesh)
    images = devices.shared(data.train, mesh)
    program = programs.compiled(recipe)
    return program.train_steps(state, devices.copied(run, mesh), images, np.int32(1))

  one, eight = after(None), after(mesh)
  assert eight.failed.sharding.is_fully_replicated
  for part in ("step", "optimizer", "statistics", "totals", "failed"):
    assert_close(getattr(one, part), getattr(eight, part))


def test_measurements_share_batches_that_cannot_be_shared_evenly(mesh):
  # 20 images in two batches of ten, 70 in five of fourteen.
  config, data = runs.config(), runs.dataset()
  run = make_run(config, data)

  def measured(mesh):
    recipe = make_recipe(config, data, mesh)
    program, placed = programs.compiled(recipe), devices.copied(run, mesh)
    state = devices.copied(initial_state(recipe, run.key), mesh)
    arguments = state.parameters, placed.key, placed.infusion
    validation, train = (
      devices.shared(images, mesh) for images in (data.validation, data.train)
    )
    terms = program.mean_terms(*arguments, validation)
    return terms, program.population_statistics(*arguments, train)

  assert_close(measured(None), measured(mesh))


def test_every_device_has_its_share_of_work_and_images(mesh):
  config, data = runs.config(), runs.dataset()
  run = make_run(config, data)

  def work(mesh):
    recipe = make_recipe(config, data, mesh)
    state = devices.copied(initial_state(recipe, run.key), mesh)
    images = devices.shared(data.train, mesh)
    arguments = state, devices.copied(run, mesh), images, np.int32(1)
    lowered = programs.compiled(recipe).train_steps.lower(*arguments)
    return lowered.compile(), images

  alone, _ = work(None)
  program, images = work(mesh)
  alone, together = (each.cost_analysis()["flops"] for each in (alone, program))
  # Shuffling and Adam are done by all.
  assert together < alone / 3
  assert [s.data.shape[0] for s in images.filled.addressable_shards] == [9] * 8
  np.testing.assert_array_equal(images.filled[: len(images)], data.train)
  # Nowhere in the program is there room for more images than a batch.
  rows = {int(n) for n in re.findall(r"u8\[([0-9]+),", program.as_text())}
  assert rows and max(rows) <= BATCH


@pytest.mark.parametrize("num_classes", [0, 3])
def test_streamed_blocks_are_shared_and_train_to_the_same_bits(
  mesh, monkeypatch, num_classes
):
  config, data = runs.config(), runs.dataset()
  model = dataclasses.replace(config.model, num_classes=num_classes)
  config = dataclasses.replace(config, model=model)
  labels = np.arange(len(data.train), dtype=np.int32) % 3 if num_classes else None
  recipe, run = make_recipe(config, data, mesh), make_run(config, data)
  placed = devices.copied(run, mesh)
  monkeypatch.setattr(feeds, "BLOCK_BYTES", 3 * BATCH * 16)

  def trained(kind):
    feed = kind(recipe, placed, data.train, labels)
    state, taken = devices.copied(initial_state(recipe, run.key), mesh), 0
    while taken < 4:
      state, size = feed.advance(state, 4 - taken)
      taken += size
    statistics = feed.population_statistics(state.parameters)
    feed.close()
    return state, statistics

  jax.tree.map(
    np.testing.assert_array_equal, trained(feeds.Resident), trained(feeds.Streamed)
  )


def rows(folder):
  return metrics_log.read(folder / metrics_log.FILE)


def fit(folder, num_devices, **train):
  mesh = devices.make_mesh(num_devices, BATCH)
  config = runs.config(ema_decay=0.9, parzen_every=2, parzen_samples=20, **train)
  return loop.fit(config, runs.dataset(), folder, progress=False, mesh=mesh)


def test_a_run_goes_on_on_another_number_of_devices(tmp_path):
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  reference = fit(whole, 1, num_epochs=6)
  fit(parts, 8, num_epochs=2)
  fit(parts, 1, num_epochs=4)
  outcome = fit(parts, 8, num_epochs=6)
  assert outcome.best_epoch == reference.best_epoch
  runs.assert_same_rows(rows(whole), rows(parts))
  # Pictures are drawn on one device from weights that differ in the last digits.
  names = [sorted(p.name for p in (f / "samples").iterdir()) for f in (whole, parts)]
  assert set(names[0]) <= set(names[1])


def test_devices_that_do_not_share_a_batch_evenly_are_refused():
  with pytest.raises(
    UserError, match=r"batch_size is 12, .* 8 .* can be 1, 2, 3, 4, 6"
  ):
    devices.make_mesh(0, 12)
  with pytest.raises(UserError, match="num_devices is 9; .* between 1 and 8"):
    devices.make_mesh(9)
  assert devices.make_mesh(1) is None
  assert devices.make_mesh(4, 12).devices.tolist() == jax.devices()[:4]


def test_keys_are_placed_as_keys(mesh):
  key = jax.random.key(5)
  placed = devices.copied({"key": key, "number": jnp.ones(3)}, mesh)
  assert jax.random.uniform(placed["key"]) == jax.random.uniform(key)
  own = devices.local(placed, mesh)
  assert own["number"].devices() == {jax.devices()[0]}
