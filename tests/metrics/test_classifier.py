"""The small classifier, and scores by the right names."""

import functools

import numpy as np
import pytest

from infusion_jax.errors import UserError
from infusion_jax.metrics import classifier, extractors
from infusion_jax.metrics.classifier import Settings

pytestmark = pytest.mark.usefixtures("quick_compile")

SETTINGS = Settings(channels=(8,), epochs=20, batch_size=16, learning_rate=1e-2)


@functools.cache
def stripes(count=96):
  """Two classes, stripes across and stripes down, and their pixels in noise."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, count)
  across = (np.arange(8) % 4 < 2)[:, None] * np.ones((8, 8))
  images = np.where(labels[:, None, None], across, across.T) * 150
  noisy = images + rng.integers(0, 60, images.shape)
  return noisy[..., None].astype(np.uint8), labels.astype(np.int32)


@functools.cache
def trained():
  return classifier.train(*stripes(), 256, SETTINGS, progress=False)


def test_learns():
  images, labels = stripes()
  assert trained().accuracy(images / 256, labels) > 0.95


def test_predictions_do_not_depend_on_the_batch(monkeypatch):
  images = stripes()[0] / 256
  monkeypatch.setattr(classifier, "_BATCH", 10)
  together = trained().predict(images[:17])
  alone = trained().predict(images[16:17])
  assert together.features.shape == (17, 128)
  assert together.probabilities.shape == (17, 2)
  np.testing.assert_allclose(together.probabilities.sum(1), 1, rtol=1e-5)
  np.testing.assert_allclose(together.features[16:], alone.features, atol=1e-5)


def test_is_the_same_again():
  again = classifier.train(*stripes(), 256, SETTINGS, progress=False)
  images = stripes()[0][:8] / 256
  for first, second in zip(
    trained().predict(images), again.predict(images), strict=True
  ):
    np.testing.assert_array_equal(first, second)


def test_saved_and_read_back(tmp_path):
  trained().about["dataset"] = "stripes"
  classifier.save(tmp_path / "a.npz", trained())
  again = classifier.load(tmp_path / "a.npz")
  assert again.about == {"dataset": "stripes"}
  images = stripes()[0][:5] / 256
  np.testing.assert_array_equal(
    again.predict(images).features, trained().predict(images).features
  )


def test_unsound_files(tmp_path):
  with pytest.raises(UserError, match="there is no such file; make it"):
    classifier.load(tmp_path / "none.npz")
  (tmp_path / "junk.npz").write_bytes(b"junk")
  with pytest.raises(UserError, match="is not one, or is damaged"):
    classifier.load(tmp_path / "junk.npz")
  classifier.save(tmp_path / "a.npz", trained())
  with np.load(tmp_path / "a.npz") as archive:
    arrays = dict(archive)
  del arrays["params/Dense_1/bias"]
  np.savez(tmp_path / "b.npz", **arrays)
  with pytest.raises(UserError, match="its arrays do not fit its description"):
    classifier.load(tmp_path / "b.npz")


@pytest.mark.parametrize(
  ("images", "labels", "message"),
  [
    (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(3, int), r"labels \(3,\)"),
    (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int), r"images have shape \(4, 8, 8\)"),
    (np.zeros((4, 8, 8, 1), np.uint8), np.ones(4, int), "at least two classes"),
    (np.zeros((2, 8, 8, 1), np.uint8), np.array([-1, 1]), "at least two classes"),
  ],
)
def test_unsound_training_sets(images, labels, message):
  with pytest.raises(UserError, match=message):
    classifier.train(images, labels, 256, SETTINGS, progress=False)


def test_unsound_settings():
  with pytest.raises(UserError, match="channels is"):
    Settings(channels=(9,))
  with pytest.raises(UserError, match="epochs is 0"):
    Settings(epochs=0)


def test_images_of_another_shape():
  with pytest.raises(UserError, match="this classifier takes"):
    trained().predict(np.zeros((3, 8, 9, 1)))
  with pytest.raises(UserError, match="with N at least 1"):
    trained().predict(np.zeros((0, 8, 8, 1)))


def test_samples_that_look_like_the_data_score_better():
  images = stripes()[0] / 256
  noise = np.random.default_rng(1).uniform(size=(48, 8, 8, 1))
  good, worse = (
    extractors.compare(
      extractors.gathered(trained().extractor, [part]),
      extractors.gathered(trained().extractor, [images[48:60], images[60:]]),
      splits=2,
      subsets=3,
      subset_size=20,
    )
    for part in (images[:48], noise)
  )
  assert 1.5 < good.inception_score.mean <= 2
  assert worse.frechet > good.frechet
  assert worse.kernel.mean > good.kernel.mean


def test_names_are_apart():
  ours, theirs = extractors.NAMES["classifier"], extractors.NAMES["inception"]
  assert not set(ours) & set(theirs)
