"""A zip of somebody's pictures, of different sizes, one of them broken."""

import io
import json
import logging
import zipfile

import numpy as np
import pytest
from launching import launch, tree
from PIL import Image

SMALL = [
  "--config.data.size=8",
  "--config.data.cache_dir={cache}",
  "--config.model.channels=(8,8)",
  "--config.chain.num_steps=2",
  "--config.train.batch_size=8",
  "--config.train.num_epochs=1",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  """40 sound pictures, and holiday/sea.jpg whose second half was lost."""
  path = tmp_path_factory.mktemp("pictures") / "mine.zip"
  rng = np.random.default_rng(0)
  with zipfile.ZipFile(path, "w") as archive:
    for number in range(41):
      shape = (rng.integers(8, 20), rng.integers(8, 20), 3)
      stream = io.BytesIO()
      picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
      picture.save(stream, "PNG" if number % 2 else "JPEG")
      content = stream.getvalue()
      name = f"holiday/{number:02}.{'png' if number % 2 else 'jpg'}"
      if number == 40:
        name, content = "holiday/sea.jpg", content[: len(content) // 2]
      archive.writestr(name, content)
  return path


def train(pictures, folder, *more):
  overrides = [text.format(cache=folder / "cache") for text in SMALL]
  return launch(
    "train",
    "--config=configs/own_images.py",
    f"--config.data.path={pictures}",
    f"--workdir={folder / 'run'}",
    "--noprogress",
    *overrides,
    *more,
  )


def test_a_broken_picture_is_named_and_nothing_is_begun(pictures, tmp_path):
  found = train(pictures, tmp_path)
  assert found.returncode == 2
  error = found.stderr.splitlines()[-1]
  assert error.startswith("error: ")
  for text in ("1 of 41 pictures", "holiday/sea.jpg", "data.bad_pictures = skip"):
    assert text in error
  assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick_compile")
def test_it_is_left_out_on_demand_and_nothing_else_is(pictures, tmp_path, caplog):
  with caplog.at_level(logging.WARNING):
    found = train(pictures, tmp_path, "--config.data.bad_pictures=skip")
  assert found.returncode == 0, found.stderr
  assert "holiday/sea.jpg" in caplog.text
  config = json.loads((tmp_path / "run/config.json").read_text())
  assert "skip" in json.dumps(config)
  # 40 pictures in all three splits, decoded once.
  (cached,) = (tmp_path / "cache").rglob("*.np[yz]")
  with np.load(cached) as arrays:
    sizes = [len(array) for array in arrays.values() if array.ndim == 4]
  assert sum(sizes) == 40
  before = tree(tmp_path / "run")
  refused = train(pictures, tmp_path)
  assert refused.returncode == 2
  assert tree(tmp_path / "run") == before
