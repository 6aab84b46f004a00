import numpy as np
import pytest

from infusion_jax import datasets
from infusion_jax.errors import UserError


def test_unknown_source_names_the_allowed_ones():
  with pytest.raises(UserError, match=r"data.source is 'hdf5'; allowed are sklearn, "):
    datasets.load("mnist", "hdf5")


@pytest.mark.parametrize("source", datasets.SOURCES)
def test_unknown_option_is_refused(source: str):
  with pytest.raises(UserError, match=r"option 'colour' is unknown"):
    datasets.load("digits", source, colour=True)


@pytest.mark.parametrize("source", ["idx", "npz"])
@pytest.mark.parametrize("path", [None, "", "/does/not/exist", "\0"])
def test_missing_path_is_refused(source: str, path: str | None):
  with pytest.raises(UserError, match=r"data.path is "):
    datasets.load("mnist", source, path)


def test_a_new_source_is_one_entry(monkeypatch: pytest.MonkeyPatch):
  def blank(name, path, *, cache_dir=None, side=2):
    del path, cache_dir
    return datasets.Dataset(name, *[np.zeros((1, side, side, 1), np.uint8)] * 3)

  monkeypatch.setitem(datasets.SOURCES, "blank", blank)
  assert datasets.load("toy", "blank").image_shape == (2, 2, 1)
  assert datasets.load("toy", "blank", side=5).image_shape == (5, 5, 1)
  with pytest.raises(UserError, match=r"option 'size' .* allowed are side"):
    datasets.load("toy", "blank", size=5)
