"""Loading a model and what it gives: from the checkpoint that the project ships."""

import ast
import base64
import dataclasses
import html
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import DIGITS, ROOT, launch, tree
from PIL import Image

import infusion_jax
from infusion_jax import model as models
from infusion_jax.chain import repeat_for_batch
from infusion_jax.datasets import digits
from infusion_jax.drawing import plots
from infusion_jax.errors import UserError
from infusion_jax.model import keys_of
from infusion_jax.storage import checkpoints
from infusion_jax.storage import weights as stored
from infusion_jax.training import state


@pytest.fixture(scope="module")
def model():
  return infusion_jax.load(DIGITS)


@pytest.fixture(scope="module")
def images():
  return digits.load("digits").test[:4]


@pytest.fixture
def copied(tmp_path):
  """The checkpoint's folder in a workdir of its own, to be damaged."""
  workdir = tmp_path / "run"
  shutil.copytree(DIGITS, workdir)
  (folder,) = (workdir / "checkpoints").iterdir()
  return folder


def flat(model):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(model.weights)]


def rewrite_about(folder, **changes):
  file = folder / "about" / "metadata"
  about = json.loads(file.read_text()) | changes
  about = {key: value for key, value in about.items() if value is not None}
  file.write_text(json.dumps(about))


# What is shipped.


def test_the_shipped_checkpoint_is_of_the_first_format():
  """Later versions must go on reading it: do not replace it, add another."""
  (file,) = DIGITS.glob("checkpoints/*/about/metadata")
  about = json.loads(file.read_text())
  assert about["format_version"] == 1
  assert about["image_shape"] == [8, 8, 1]
  assert about["levels"] == 17
  assert about["statistics"] == "population"


def test_the_shipped_checkpoint_is_small_and_names_no_place():
  files = tree(DIGITS)
  assert sum(map(len, files.values())) < 1_000_000
  for name, content in files.items():
    for place in (b"/home/", b"/root", b"/tmp", b"/work", b"/Users/"):
      assert place not in content, name


def test_its_images_are_digits(model, images):
  found = model.sample(jax.random.key(0), 64)
  assert found.shape == (64, 8, 8, 1)
  assert found.dtype == np.float32
  assert found.min() >= 0.0
  assert found.max() <= 1.0
  # Every one lies nearer to some digit than the mean image does, by far.
  train = digits.load("digits").train.reshape(-1, 64) / 17
  distance = np.linalg.norm(found.reshape(64, 1, 64) - train, axis=-1).min(1)
  noise = np.linalg.norm(train.mean(0) - train, axis=-1).mean()
  assert np.median(distance) < 0.5 * noise
  assert model.log_likelihood(jax.random.key(1), images, 16).mean() > -100


# Loading.


def test_every_way_to_name_a_checkpoint_gives_the_same(copied, model):
  expected = flat(model)
  for path in (copied, copied.parent, copied.parent.parent, str(copied.parent.parent)):
    loaded = infusion_jax.load(path)
    assert loaded.step == int(copied.name)
    assert loaded.path == pathlib.Path(path)
    for a, b in zip(flat(loaded), expected, strict=True):
      np.testing.assert_array_equal(a, b)


def test_a_workdir_gives_its_newest_checkpoint(tmp_path, model):
  writer = checkpoints.Checkpoints(tmp_path, write=True)
  for step in (5, 19):
    weights = model.weights._replace(
      statistics=jax.tree.map(
        lambda leaf, step=step: leaf + step, model.weights.statistics
      )
    )
    about = {**model.about, "epoch": step}
    writer.export(step, stored.tree_of(weights), about)
  writer.close()
  assert infusion_jax.load(tmp_path).about["epoch"] == 19
  older = infusion_jax.load(tmp_path / "checkpoints" / "5")
  assert older.about["epoch"] == 5
  np.testing.assert_allclose(flat(older)[-1], flat(infusion_jax.load(tmp_path))[-1])
  assert not np.allclose(
    jax.tree.leaves(older.weights.statistics)[0],
    jax.tree.leaves(infusion_jax.load(tmp_path).weights.statistics)[0],
  )


def test_loading_reads_no_training_state_and_writes_nothing(copied):
  """Not even a damaged optimizer is in its way."""
  (copied / "training" / "d").mkdir(parents=True)
  (copied / "training" / "manifest.ocdbt").write_bytes(b"no checkpoint")
  before = tree(copied.parent)
  infusion_jax.load(copied.parent.parent).sample(jax.random.key(0), 1)
  assert tree(copied.parent) == before


def test_the_library_imports_no_absl():
  for file in (ROOT / "infusion_jax").rglob("*.py"):
    for node in ast.walk(ast.parse(file.read_text())):
      names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
      names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
      assert not [n for n in names if n.split(".")[0] in ("absl", "ml_collections")]


def test_five_lines_need_no_tensorflow_and_no_particular_device_count(model):
  """Also: other devices, other process, another batch, the same bits."""
  script = (
    "import sys, jax, numpy as np, infusion_jax\n"
    "assert jax.device_count() == 8\n"
    f"model = infusion_jax.load({str(DIGITS)!r})\n"
    "images = model.sample(jax.random.key(0), 6)\n"
    "heavy = 'tensorflow', 'tensorflow_datasets', 'sklearn', 'matplotlib', 'torch'\n"
    "assert not [name for name in heavy if name in sys.modules]\n"
    "np.save(sys.stdout.buffer, images)\n"
  )
  flags = os.environ.get("XLA_FLAGS", "")
  result = subprocess.run(
    [sys.executable, "-c", script],
    cwd=ROOT,
    env=os.environ
    | {
      "PYTHONPATH": str(ROOT),
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8",
    },
    capture_output=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, result.stderr.decode()
  found = np.load(io.BytesIO(result.stdout))
  expected = model.sample(jax.random.key(0), 70)[:6]
  if jax.default_backend() == "cpu":
    np.testing.assert_array_equal(found, expected)


# Paths that are no checkpoints.


def damage_missing(folder):
  shutil.rmtree(folder.parent.parent)


def damage_to_a_file(folder):
  shutil.rmtree(folder.parent.parent)
  folder.parent.parent.write_text("no folder")


def damage_empty(folder):
  shutil.rmtree(folder.parent)


def damage_no_step(folder):
  shutil.rmtree(folder)


def damage_unfinished(folder):
  folder.rename(folder.with_name(f"{folder.name}.orbax-checkpoint-tmp"))


def damage_foreign(folder):
  shutil.rmtree(folder)
  (folder / "default").mkdir(parents=True)
  (folder / "default" / "checkpoint").write_bytes(b"\x93\x00")


def damage_no_model(folder):
  shutil.rmtree(folder / "model")


def damage_no_about(folder):
  shutil.rmtree(folder / "about")


def damage_manifest(folder):
  (folder / "model" / "manifest.ocdbt").unlink()


def damage_data(folder):
  data = max(folder.rglob("ocdbt.process_0/d/*"), key=lambda f: f.stat().st_size)
  data.write_bytes(data.read_bytes()[:100])


def damage_a_bit(folder):
  data = max(folder.rglob("ocdbt.process_0/d/*"), key=lambda f: f.stat().st_size)
  content = bytearray(data.read_bytes())
  content[len(content) // 2] ^= 0xFF
  data.write_bytes(content)


def damage_text(folder):
  file = folder / "about" / "metadata"
  file.write_text(file.read_text()[:40])


def damage_version(folder):
  rewrite_about(folder, format_version=checkpoints.FORMAT_VERSION + 1)


def damage_no_version(folder):
  rewrite_about(folder, format_version=None)


def damage_no_config(folder):
  rewrite_about(folder, config=None)


def damage_shape(folder):
  rewrite_about(folder, image_shape=[9, 9, 1])


DAMAGES = {
  damage_missing: "does not exist; allowed is a workdir or a checkpoint",
  damage_to_a_file: "is a file; allowed is a workdir or a checkpoint",
  damage_empty: "holds no complete checkpoint",
  damage_no_step: "holds no complete checkpoint",
  damage_unfinished: "holds no complete checkpoint",
  damage_foreign: "cannot be read: it is damaged or of another model",
  damage_no_model: "cannot be read: it is damaged or of another model",
  damage_no_about: "cannot be read: it is damaged or of another model",
  damage_manifest: "cannot be read: it is damaged or of another model",
  damage_data: "cannot be read: it is damaged or of another model",
  damage_a_bit: "damaged",
  damage_text: "cannot be read: it is damaged or of another model",
  damage_version: f"has format version {checkpoints.FORMAT_VERSION + 1}; this version",
  damage_no_version: "has format version None",
  damage_no_config: "lacks its description: 'config'",
  damage_shape: "cannot be read: it is damaged or of another model",
}


@pytest.mark.parametrize(
  ("damage", "told"), DAMAGES.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_what_is_no_checkpoint_is_refused_in_one_sentence(copied, damage, told):
  workdir = copied.parent.parent
  damage(copied)
  before = tree(workdir.parent)
  result = launch("sample", f"--workdir={workdir}", f"--out={workdir.parent}/x.png")
  assert result.returncode == 2
  assert result.stdout == ""
  (line,) = result.stderr.splitlines()
  assert line.startswith("error: ")
  assert told in line
  assert workdir.name in line
  assert tree(workdir.parent) == before


def test_a_step_that_is_not_there_is_refused(copied):
  with pytest.raises(UserError, match="7 does not exist"):
    infusion_jax.load(copied.parent / "7")


# Images.


def test_an_image_depends_on_its_key_alone(model):
  keys = models.keys_of(jax.random.key(3), range(70))
  together = model.sample(keys)
  order = np.random.default_rng(0).permutation(70)
  np.testing.assert_array_equal(model.sample(keys[order]), together[order])
  np.testing.assert_array_equal(model.sample(keys[5:6])[0], together[5])
  np.testing.assert_array_equal(model.sample(jax.random.key(3), 66), together[:66])
  assert len(np.unique(together.reshape(70, -1), axis=0)) == 70


def test_a_sample_is_the_mean_and_noise(model):
  key = jax.random.key(0)
  mean, drawn = model.sample(key, 64), model.sample(key, 64, mean=False)
  chains = model.chain(key, 64)
  error = (drawn - mean) / np.sqrt(chains.variances[:, -1])
  assert abs(error.mean()) < 0.1
  assert abs(error.std() - 1) < 0.1


def test_chains_start_at_the_prior_and_end_with_the_picture(model):
  key = jax.random.key(0)
  chains = model.chain(key, 3)
  assert chains.states.shape == chains.means.shape == (3, 10, 8, 8, 1)
  np.testing.assert_allclose(chains.means[:, -1], model.sample(key, 3), atol=1e-6)
  many = model.chain(key, 200).states[:, 0]
  prior = repeat_for_batch(model.weights.infusion.prior, 200)
  error = (many - prior.mean) / np.sqrt(prior.variance)
  assert abs(error.mean()) < 0.05
  assert abs(error.std() - 1) < 0.05


def test_infusion_chains_end_near_their_target(model, images):
  x = (images / 17).astype(np.float32)
  chains = model.infuse(jax.random.key(0), x)
  assert chains.mask.shape == (4, 10, 8, 8, 1)
  assert not chains.mask[:, 0].any()
  share = chains.mask.mean((0, 2, 3, 4))
  np.testing.assert_allclose(share, model.weights.infusion.rates, atol=0.15)
  assert np.abs(chains.means[:, -1] - x).mean() < np.abs(chains.means[:, 0] - x).mean()
  keys = keys_of(jax.random.key(0), range(4))
  alone = model.infuse(keys[2:3], x[2:3])
  np.testing.assert_array_equal(alone.states[0], chains.states[2])


@pytest.mark.parametrize("kind", ["plane", "per image"])
def test_known_pixels_come_out_bit_identical(model, images, kind):
  x = np.repeat((images[:1] / 17).astype(np.float32), 5, axis=0)
  known = np.zeros((8, 8), bool)
  known[:4] = True
  mask = known if kind == "plane" else np.repeat(known[None, :, :, None], 5, axis=0)
  found = model.inpaint(jax.random.key(0), x, mask)
  np.testing.assert_array_equal(found[:, :4], x[:, :4])
  assert len(np.unique(found[:, 4:].reshape(5, -1), axis=0)) == 5
  chains = model.inpaint_chain(keys_of(jax.random.key(0), range(5)), x, mask)
  np.testing.assert_array_equal(
    chains.states[:, :, :4], np.repeat(x[:, None, :4], 10, axis=1)
  )


def test_estimates_of_integers_and_reals(model, images):
  key = jax.random.key(0)
  found = model.estimate(key, images, 16)
  assert found.bound.shape == found.importance.shape == (4,)
  assert np.all(found.bound < found.importance)
  assert np.all((found.ess >= 1 - 1e-4) & (found.ess <= 16))
  np.testing.assert_array_equal(model.log_likelihood(key, images, 16), found.importance)
  # Integers are dequantized, each time anew; reals are scored as they are.
  other = model.estimate(jax.random.key(1), images, 16)
  assert np.abs(other.bound - found.bound).min() > 1e-3
  real = model.estimate(key, (images + 0.5).astype(np.float32) / 17, 16)
  assert np.all(real.importance > found.bound)


@pytest.mark.parametrize(
  ("call", "told"),
  [
    (lambda m, k: m.sample(k, 0), "count is 0"),
    (lambda m, k: m.chain(k, -1), "count is -1"),
    (lambda m, k: m.sample(k, 1, num_steps=0), "num_steps is 0"),
    (lambda m, k: m.infuse(k, np.zeros((2, 9, 8, 1))), r"takes\s\[B, 8, 8, 1\]"),
    (lambda m, k: m.infuse(k, np.zeros((0, 8, 8, 1))), r"\(0, 8, 8, 1\)"),
    (
      lambda m, k: m.inpaint(k, np.zeros((2, 8, 8, 1)), np.ones((4, 8))),
      r"known has shape \(4, 8\)",
    ),
    (lambda m, k: m.estimate(k, np.zeros((2, 8, 8, 3))), r"\(2, 8, 8, 3\)"),
    (lambda m, k: m.estimate(k, np.zeros((2, 8, 8, 1)), 0), "num_chains is 0"),
  ],
)
def test_arguments_that_do_not_fit_are_refused(model, call, told):
  with pytest.raises(UserError, match=told):
    call(model, jax.random.key(0))


# Other checkpoints.


def test_the_untrained_model_is_what_training_starts_from(model):
  untrained = models.untrained(model)
  dataset = digits.load("digits")
  recipe = state.make_recipe(model.config, dataset)
  run = state.make_run(model.config, dataset)
  initial = state.initial_state(recipe, run.key)
  expected = jax.tree.leaves((initial.parameters, initial.statistics))
  found = jax.tree.leaves((untrained.weights.parameters, untrained.weights.statistics))
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_array_equal(a, b)
  assert untrained.about["epoch"] == 0


def test_a_run_that_started_from_another_has_no_untrained_model(model):
  train = dataclasses.replace(model.config.train, init_from="runs/other")
  config = dataclasses.replace(model.config, train=train)
  with pytest.raises(UserError, match="'runs/other'"):
    models.untrained(dataclasses.replace(model, config=config))


@pytest.mark.parametrize(("keep_every", "kept"), [(0, [1, 2, 3, 4, 5]), (2, [2, 4, 5])])
def test_kept_epochs_are_found(model, tmp_path, keep_every, kept):
  train = dataclasses.replace(model.config.train, keep_every=keep_every)
  config = dataclasses.replace(model.config, train=train).to_dict()
  writer = checkpoints.Checkpoints(tmp_path, keep_period=19, write=True)
  for epoch in range(1, 6):
    about = model.about | {"epoch": epoch, "config": config}
    writer.export(19 * epoch, {"one": jnp.zeros(1)}, about)
  writer.close()
  found = models.epochs(tmp_path)
  assert list(found) == kept
  assert found[5].name == "95"


def test_export_and_load_are_inverse(model, tmp_path):
  folder = models.export(model, tmp_path / "small", note={"why": "a test"})
  loaded = infusion_jax.load(tmp_path / "small")
  for a, b in zip(flat(loaded), flat(model), strict=True):
    np.testing.assert_array_equal(a, b)
  assert loaded.config == model.config
  assert loaded.about["note"] == {"why": "a test"}
  assert not (folder / "training").exists()
  assert str(tmp_path).encode() not in b"".join(tree(folder).values())


def test_export_writes_into_nothing_else(model, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  for place in (tmp_path, tmp_path / "mine.txt"):
    with pytest.raises(UserError, match="is in use"):
      models.export(model, place)
  assert tree(tmp_path) == {"mine.txt": b"mine"}


def test_the_export_launcher_tells_where_a_model_comes_from(copied, tmp_path):
  launches = copied.parent.parent / "launches.jsonl"
  launches.write_text('{"command": "python -m experiments.train", "commit": "abc"}\n')
  result = launch(
    "export", f"--workdir={copied.parent.parent}", f"--out={tmp_path}/small"
  )
  assert result.returncode == 0, result.stderr
  assert "MB" in result.stdout
  about = infusion_jax.load(tmp_path / "small").about
  assert about["trained_by"][0]["commit"] == "abc"
  assert {"command", "commit", "versions", "device"} <= set(about["exported_by"])
  with launches.open("a") as stream:
    stream.write('{"command": "torn by a ki')
  result = launch(
    "export", f"--workdir={copied.parent.parent}", f"--out={tmp_path}/other"
  )
  assert result.returncode == 0, result.stderr
  about = infusion_jax.load(tmp_path / "other").about
  assert [row["commit"] for row in about["trained_by"]] == ["abc"]


def test_the_shape_of_the_key_decides(model):
  """One key and a count are the same as the keys of these images."""
  key = jax.random.key(4)
  np.testing.assert_array_equal(
    model.sample(key, 3), model.sample(keys_of(key, range(3)))
  )
  with pytest.raises(UserError, match="count is missing"):
    model.sample(key)


def test_a_model_says_what_it_is_in_one_line(model):
  text = repr(model)
  assert len(text) < 300 and "\n" not in text
  assert "mlp of" in text and "nats per image" in text


def test_a_notebook_shows_some_of_a_models_pictures(model):
  shown = Image.open(io.BytesIO(model._repr_png_()))
  grid = plots.grid(model.sample(jax.random.key(0), 16), columns=8)
  np.testing.assert_array_equal(np.asarray(shown), grid[..., 0])
  text = model._repr_html_()
  assert html.escape(repr(model)) in text
  assert base64.b64encode(model._repr_png_()).decode() in text


def test_rooms_are_found_from_the_package():
  code = (
    "import infusion_jax; print(infusion_jax.chain.run.__name__,"
    " {'load', 'Model', 'chain', 'likelihood'} <= set(dir(infusion_jax)))"
  )
  told = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert told.stdout.split() == ["run", "True"]
