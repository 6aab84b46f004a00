"""Models as safetensors files, in float16, and on a stand-in for the hub."""

import importlib
import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest
from launching import DIGITS, launch

import infusion_jax
from infusion_jax import model as models
from infusion_jax import objectives, sampling
from infusion_jax.datasets import digits
from infusion_jax.errors import UserError
from infusion_jax.model import hub
from infusion_jax.storage import weights as stored

safetensors_numpy = pytest.importorskip(
  "safetensors.numpy", reason="needs the package safetensors"
)

KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def model():
  return infusion_jax.load(DIGITS)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
  place = tmp_path_factory.mktemp("files") / "digits.safetensors"
  return models.export_file(model, place, note={"why": "a test"})


@pytest.fixture
def copied(file, tmp_path):
  return pathlib.Path(shutil.copy(file, tmp_path))


def flat(model):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(model.weights)]


def rewritten(path, change_arrays=None, change_metadata=None):
  """The file with other arrays or another text; both are plain dictionaries."""
  arrays = safetensors_numpy.load_file(path)
  size = int.from_bytes(path.read_bytes()[:8], "little")
  metadata = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
  for change, what in ((change_arrays, arrays), (change_metadata, metadata)):
    if change:
      change(what)
  safetensors_numpy.save_file(arrays, path, metadata)


# Files.


def test_a_file_gives_the_same_pictures(model, file):
  loaded = infusion_jax.load(file)
  np.testing.assert_array_equal(loaded.sample(KEY, 5), model.sample(KEY, 5))
  for a, b in zip(flat(loaded), flat(model), strict=True):
    np.testing.assert_array_equal(a, b)
    assert a.dtype == b.dtype
  assert loaded.config == model.config
  assert (loaded.step, loaded.path, loaded.levels) == (model.step, file, model.levels)
  assert loaded.about["note"] == {"why": "a test"}
  assert repr(loaded).startswith(f"Model({str(file)!r}: mlp of 10 steps")


def test_other_libraries_read_it(model, file):
  arrays = safetensors_numpy.load_file(file)
  assert arrays["prior/mean"].shape == (8, 8, 1)
  kernel = model.weights.parameters.shared["Dense_0"]["kernel"]
  np.testing.assert_array_equal(arrays["shared/Dense_0/kernel"], kernel)
  count = sum(array.size for array in arrays.values())
  assert count == sum(leaf.size for leaf in flat(model))
  assert file.stat().st_size < 4 * count + 10_000


def test_no_folder_of_this_machine_is_in_it(file):
  content = file.read_bytes()
  for place in (b"/home/", b"/root", b"/tmp", b"/work", b"/Users/"):
    assert place not in content


def test_nothing_is_overwritten(model, copied, tmp_path):
  before = copied.read_bytes()
  with pytest.raises(UserError, match="is there already"):
    models.export_file(model, copied)
  with pytest.raises(UserError, match=r"name ending in \.safetensors"):
    models.export_file(model, tmp_path / "digits.npz")
  with pytest.raises(UserError, match="cannot write"):
    models.export_file(model, copied / "below.safetensors")
  assert copied.read_bytes() == before


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.999])
def test_a_flipped_bit_is_found(copied, share):
  content = bytearray(copied.read_bytes())
  content[int(share * len(content))] ^= 0x10
  copied.write_bytes(content)
  with pytest.raises(UserError, match="damaged|of another model|no description"):
    infusion_jax.load(copied)


def test_a_file_that_is_none_is_told(copied, tmp_path):
  whole = copied.read_bytes()
  for content in (b"", b"text", whole[:-1], whole[:100], whole + b"x"):
    copied.write_bytes(content)
    with pytest.raises(UserError, match="is no safetensors file, or damaged"):
      infusion_jax.load(copied)
  with pytest.raises(UserError, match="none.safetensors cannot be read"):
    infusion_jax.load(tmp_path / "none.safetensors")


def test_the_file_of_another_project_is_told(copied):
  rewritten(copied, change_metadata=dict.clear)
  with pytest.raises(UserError, match="has no description"):
    infusion_jax.load(copied)


def _without_kernel(arrays):
  del arrays["shared/Dense_0/kernel"]


def _turned(arrays):
  name = "shared/Dense_0/kernel"
  arrays[name] = np.ascontiguousarray(arrays[name].T)


def _narrower(arrays):
  arrays["prior/mean"] = arrays["prior/mean"].astype(np.float16)


@pytest.mark.parametrize("change", [_without_kernel, _turned, _narrower])
def test_arrays_of_another_model_are_told(copied, change):
  rewritten(copied, change_arrays=change)
  with pytest.raises(UserError, match="is of another model"):
    infusion_jax.load(copied)


def test_an_exchanged_description_is_told(copied):
  def change(metadata):
    about = json.loads(metadata["infusion_jax"])
    metadata["infusion_jax"] = json.dumps(about | {"epoch": 1000})

  rewritten(copied, change_metadata=change)
  with pytest.raises(UserError, match="checksum of its description"):
    infusion_jax.load(copied)


# Half the room.


_bound = jax.jit(objectives.bound)


def bounds(model):
  """One chain for every test image, [360] nats."""
  x = (digits.load("digits").test + 0.5) / 17
  markov = sampling.markov_chain(model.network, model.weights)
  terms, _ = _bound(jax.random.split(KEY, len(x)), markov, x)
  return np.asarray(terms.bound)


@pytest.mark.parametrize("write", [models.export, models.export_file])
def test_float16_halves_the_size_and_keeps_the_bound(model, tmp_path, write):
  place = tmp_path / "half.safetensors"
  write(model, place, dtype="float16")
  loaded = infusion_jax.load(place)
  for old, new in zip(flat(model), flat(loaded), strict=True):
    assert new.dtype == old.dtype
    np.testing.assert_allclose(new, old, rtol=2**-11, atol=2**-25)
  for name in ("statistics", "infusion"):
    old, new = getattr(model.weights, name), getattr(loaded.weights, name)
    jax.tree.map(np.testing.assert_array_equal, old, new)
  # Among the same noise the two bounds differ by what rounding did alone.
  gap = np.mean(bounds(model) - bounds(loaded))
  assert 0 < abs(gap) < 0.1
  # Written once more it stays what it is, and becomes float32 on demand.
  again = models.export_file(loaded, tmp_path / "again.safetensors")
  assert "dtype" not in infusion_jax.load(again).about
  if write is models.export_file:
    shared = sum(leaf.size for leaf in jax.tree.leaves(model.weights.parameters.shared))
    saved = again.stat().st_size - place.stat().st_size
    assert saved == pytest.approx(2 * shared, abs=200)


def test_a_run_starts_from_a_float16_checkpoint(model, tmp_path):
  models.export(model, tmp_path / "half", dtype="float16")
  started = stored.of_run(str(tmp_path / "half"), model.network)
  assert {leaf.dtype for leaf in jax.tree.leaves(started)} == {np.dtype("float32")}


def test_a_weight_beyond_float16_is_told(model):
  item = stored.tree_of(model.weights)
  item["shared"] = jax.tree.map(lambda leaf: leaf + 7e4, item["shared"])
  with pytest.raises(UserError, match="'float16'; a weight is too large"):
    stored.narrowed(item, "float16")
  with pytest.raises(UserError, match="'int4'; allowed are float32, float16"):
    stored.like(model.network, {"dtype": "int4"})


# The hub, as its package lays files out in a cache.


class Hub:
  """A repository that is uploaded to lies in the cache, as after a download."""

  def __init__(self, cache: pathlib.Path) -> None:
    self.cache, self.made = cache, []

  def create_repo(self, repository, exist_ok):
    assert exist_ok
    if repository.startswith("not-mine/"):
      raise PermissionError("403 Forbidden")
    self.made.append(repository)

  def upload_folder(self, repo_id, folder_path):
    assert repo_id in self.made
    place = self.cache / f"models--{repo_id.replace('/', '--')}"
    revision = f"{len(self.made):040x}"
    shutil.copytree(folder_path, place / "snapshots" / revision)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(revision)


@pytest.fixture
def hugging(tmp_path, monkeypatch):
  """huggingface_hub itself, its cache in a folder, without a network."""
  library = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
  fake = Hub(tmp_path / "cache")
  constants = importlib.import_module("huggingface_hub.constants")
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(fake.cache))
  monkeypatch.setattr(library, "HfApi", lambda: fake)
  return fake


def test_what_is_pushed_is_loaded(model, hugging):
  assert models.push(model, "me/digits") == "hf://me/digits"
  loaded = infusion_jax.load("hf://me/digits")
  np.testing.assert_array_equal(loaded.sample(KEY, 3), model.sample(KEY, 3))
  (page,) = hugging.cache.rglob("README.md")
  assert 'infusion_jax.load("hf://me/digits")' in page.read_text()
  assert "mlp of 10 steps" in page.read_text()
  models.push(model, "me/digits", dtype="float16")
  assert infusion_jax.load("hf://me/digits").about["dtype"] == "float16"
  first = infusion_jax.load(f"hf://me/digits@{1:040x}")
  assert "dtype" not in first.about


def test_what_is_not_there_is_told(hugging):
  with pytest.raises(UserError, match="hf://me/none has no model.safetensors"):
    infusion_jax.load("hf://me/none")
  for address in ("hf://", "hf://me", "hf://me/a/b", "hf://me/a@", "hf://../x y"):
    with pytest.raises(UserError, match="is no address"):
      infusion_jax.load(address)


def test_a_hub_that_refuses_is_told(model, hugging):
  with pytest.raises(UserError, match="not-mine/digits.*403 Forbidden"):
    models.push(model, "not-mine/digits")
  with pytest.raises(UserError, match="'digits'; allowed are names like"):
    models.push(model, "digits")
  assert not hugging.made


def test_missing_packages_are_told(model, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "huggingface_hub", None)
  with pytest.raises(UserError, match=r"infusion_jax\[hub\]"):
    hub.fetched("hf://me/digits")
  monkeypatch.setitem(sys.modules, "safetensors", None)
  monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
  with pytest.raises(UserError, match=r"infusion_jax\[safetensors\]"):
    models.export_file(model, tmp_path / "x.safetensors")
  assert not list(tmp_path.iterdir())


# The launcher.


def test_the_launcher_writes_each_kind(model, hugging, tmp_path):
  kinds = {
    "half": ("--dtype=float16",),
    "one.safetensors": ("--format=safetensors",),
  }
  for name, flags in kinds.items():
    out = tmp_path / name
    done = launch("export", f"--workdir={DIGITS}", f"--out={out}", *flags)
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}" in done.stdout and "MB)" in done.stdout
    assert infusion_jax.load(out).about["exported_by"]["versions"]
  done = launch("export", f"--workdir={DIGITS}", "--push_to_hub=me/digits")
  assert done.returncode == 0, done.stderr
  assert done.stdout == "wrote hf://me/digits\n"
  assert infusion_jax.load("hf://me/digits").about["exported_by"]["versions"]
