"""Runs whose network is shown something of each image: what they learn of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import UserError, sampling
from infusion_jax.restoration import conditions
from infusion_jax.training import conditioning, loop
from infusion_jax.training.state import make_recipe
from infusion_jax.views import restoring


def dataset():
  """Images that are dark or bright."""
  plain = runs.dataset()

  def two_kinds(images):
    bright = np.arange(len(images))[:, None, None, None] % 2
    return (images // 4 + 12 * bright).astype(np.uint8)

  splits = ("train", "validation", "test")
  return dataclasses.replace(
    plain, **{split: two_kinds(plain.split(split)) for split in splits}
  )


def config(condition="superres2", **train):
  train = {"learning_rate": 0.01, "num_epochs": 30, "checkpoint_every": 30, **train}
  plain = runs.config(**train)
  model = dataclasses.replace(plain.model, condition=condition)
  return dataclasses.replace(plain, model=model)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("shown") / "run"
  loop.fit(config(), dataset(), folder, progress=False)
  return infusion_jax.load(folder)


@pytest.fixture
def originals():
  return (dataset().test[:6] / 17).astype(np.float32)


def test_pictures_are_of_the_kind_that_was_shown(model, originals, key):
  seen = conditions.of_images("superres2", key, jnp.asarray(originals))
  markov = sampling.given(model.markov(), seen=seen)
  found = np.asarray(sampling.predict(markov, jax.random.split(key, 6)).mean)
  np.testing.assert_allclose(
    found.mean((1, 2, 3)), originals.mean((1, 2, 3)), atol=0.15
  )
  # Shown nothing, it knows of neither.
  free = model.sample(key, 6).mean((1, 2, 3))
  assert (abs(free - 0.5) < 0.2).all()


@pytest.mark.parametrize("way", restoring.WAYS)
@pytest.mark.parametrize("task", ["superres", "inpaint"])
def test_restorations_agree_with_what_was_seen(model, originals, key, task, way):
  known = np.zeros((4, 4), bool)
  known[:2] = True
  options = {"factor": 2, "known": known, "way": way}
  if (task, way) == ("inpaint", "shown"):
    with pytest.raises(UserError, match="'superres2'; it is not trained for 'inpaint'"):
      restoring.restore(model, key, originals, task, 2, **options)
    return
  found = restoring.restore(model, key, originals, task, 2, **options)
  assert found.images.shape == (6, 2, 4, 4, 1)
  assert found.error < 1e-5
  values = restoring.measured(originals, found)
  if way == "shown":
    assert values["psnr"] > 14 and values["diversity"] > 0
  again = restoring.restore(model, key, originals[3:4], task, 2, numbers=[3], **options)
  np.testing.assert_allclose(again.images[0], found.images[3], atol=1e-5)


def test_what_is_seen_is_left_out_as_often_as_asked(key):
  recipe = dataclasses.replace(make_recipe(config(), dataset()), label_dropout=0.25)
  images = jnp.asarray(np.resize(dataset().train, (2000, 4, 4, 1)))
  seen = conditioning.told(recipe, key, images, None)["seen"]
  whole = conditioning.told(recipe, key, images, None, dropping=False)["seen"]
  gone = np.asarray(~(seen != 0).any((1, 2, 3)))
  assert abs(gone.mean() - 0.25) < 0.04
  np.testing.assert_array_equal(seen[~gone], whole[~gone])
  # Clean pixels are seen, as at restoration.
  clean = conditions.of_images("superres2", key, images / 17)
  np.testing.assert_allclose(whole, clean, rtol=1e-5)
  plain = make_recipe(runs.config(), dataset())
  assert conditioning.told(plain, key, images, None) == {"label": None}


def test_images_and_conditions_go_together():
  with pytest.raises(UserError, match="'colour'; images have 1 channels"):
    loop.check_fits(config("colour"), dataset())
  with pytest.raises(UserError, match="conditions .* are for 'infusion' alone"):
    loop.check_fits(config(method="vae"), dataset())
