"""Networks of a user's own: found when asked for, never run unasked."""

import dataclasses
import logging
import pathlib
import shutil

import flax.linen as nn
import jax
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import networks
from infusion_jax.config import ChainConfig, ModelConfig
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.networks import user_code
from infusion_jax.sweep import conductor, ledger
from infusion_jax.training import loop

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPE = (4, 4, 1)
SOURCE = """
import pathlib
import flax.linen as nn
from infusion_jax.gaussian import Gaussian

pathlib.Path(__file__).with_suffix(".ran").touch()

class Shift(nn.Module):
  variance_floor: float = 1.0
  hidden_sizes: tuple = ()

  @nn.compact
  def __call__(self, z, time, train):
    shift = self.param("shift", nn.initializers.zeros, z.shape[1:])
    return Gaussian(z + time * shift, 0 * z + self.variance_floor)

class Flat(nn.Module):
  def __call__(self, z, time, train):
    return Gaussian(z.reshape(len(z), -1), z.reshape(len(z), -1))

class Fails(nn.Module):
  def __call__(self, z, time, train):
    return z @ z.T

class Demanding(nn.Module):
  depth: int
"""


OWN_RUN = runs.config(num_epochs=1)
OWN_RUN = dataclasses.replace(
  OWN_RUN, model=dataclasses.replace(OWN_RUN.model, name="theirs.py:Shift")
)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
  """Every test begins in a process that has run no file."""
  monkeypatch.setattr(user_code, "_FILES", {})
  monkeypatch.setattr(user_code, "_REGISTERED", {})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with a network's file, and a run of it that was trained there."""
  folder = tmp_path_factory.mktemp("home")
  (folder / "theirs.py").write_text(SOURCE)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(user_code, "_FILES", {})
    patch.chdir(folder)
    user_code.run("theirs.py")
    loop.fit(OWN_RUN, runs.dataset(), pathlib.Path("run"), progress=False)
  (folder / "theirs.ran").unlink()
  return folder


@pytest.fixture
def file(home, tmp_path, monkeypatch):
  """The file of a copy of that folder, in which the test works."""
  shutil.copytree(home, tmp_path, dirs_exist_ok=True)
  monkeypatch.chdir(tmp_path)
  return tmp_path / "theirs.py"


def built(name, **model):
  chain = ChainConfig(num_steps=3, omega=0.1, variance_floor=0.25)
  return networks.build(ModelConfig(name=name, **model), chain, SHAPE)


@pytest.fixture
def trained(file):
  """The workdir of the run."""
  return file.with_name("run")


def test_fields_take_the_values_of_the_keys_they_are_called_like(file):
  user_code.run(file)
  network = built(f"{file}:Shift", hidden_sizes=(5, 7))
  assert network.module.variance_floor == 0.25
  assert network.module.hidden_sizes == (5, 7)
  assert network.num_steps == 3
  parameters, _ = network.init(jax.random.key(0))
  assert parameters.shared["shift"].shape == SHAPE
  # Equal networks share their compiled programs.
  assert network == built(f"{file}:Shift", hidden_sizes=(5, 7))


def test_a_class_can_be_registered_without_a_file():
  class Still(nn.Module):
    def __call__(self, z, time, train):
      return Gaussian(z, 0 * z + 1)

  networks.register("still", Still)
  assert isinstance(built("still").module, Still)
  with pytest.raises(UserError, match="nn.Module"):
    networks.register("none", Gaussian)


def test_a_name_alone_runs_nothing(file):
  with pytest.raises(UserError, match="add --code=theirs.py"):
    built("theirs.py:Shift")
  assert not file.with_suffix(".ran").exists()


def test_a_strangers_checkpoint_runs_nothing_unasked(trained, file):
  for load in (infusion_jax.load, lambda path: infusion_jax.load(path / "checkpoints")):
    with pytest.raises(UserError, match="theirs.py.*only if you ask for it.*--code="):
      load(trained)
  assert not file.with_suffix(".ran").exists()


def test_asked_for_it_loads_and_samples(trained, file):
  model = infusion_jax.load(trained, code=file)
  assert file.with_suffix(".ran").exists()
  assert model.config.model.name == "theirs.py:Shift"
  assert model.sample(jax.random.key(0), 2).shape == (2, *SHAPE)


def test_a_file_that_has_moved_is_found_where_it_is_now(trained, file, tmp_path):
  moved = tmp_path / "elsewhere" / file.name
  moved.parent.mkdir()
  file.rename(moved)
  with pytest.raises(UserError, match="it is not there: say where it is now"):
    infusion_jax.load(trained)
  infusion_jax.load(trained, code=moved)
  # Two files of that name, neither where the checkpoint says: nobody guesses.
  third = tmp_path / "third" / file.name
  third.parent.mkdir()
  third.write_text(moved.read_text())
  with pytest.raises(UserError, match="several files of that name"):
    infusion_jax.load(trained, code=third)


def test_another_version_of_the_file_is_told(trained, file, caplog):
  infusion_jax.load(trained, code=file)
  assert not caplog.records
  file.write_text(file.read_text().replace("time * shift", "shift"))
  with caplog.at_level(logging.WARNING):
    infusion_jax.load(trained, code=file)
  assert "another version of its file" in caplog.text


def test_training_resumes(trained, file):
  user_code.run(file)
  longer = runs.config(num_epochs=2).train
  longer = dataclasses.replace(OWN_RUN, train=longer)
  outcome = loop.fit(longer, runs.dataset(), trained, progress=False)
  assert outcome.epochs == 2


def test_a_file_is_run_once_for_each_of_its_texts(file):
  marker = file.with_suffix(".ran")
  user_code.run(file)
  marker.unlink()
  user_code.run(file)
  assert not marker.exists()
  file.write_text(file.read_text() + "\nADDED = 1\n")
  user_code.run(file)
  assert marker.exists()
  assert user_code.files() == (str(file.resolve()),)


def test_a_worker_of_a_sweep_runs_the_files_of_its_driver(file, tmp_path, monkeypatch):
  """A process of Ray begins without them; it must not run those of a folder."""
  user_code.run(file)
  folder = ledger.Folder(tmp_path / "sweep")
  data = runs.dataset()
  monkeypatch.setattr(conductor, "load_dataset", lambda config: data)
  plan = conductor.planned(folder, [OWN_RUN], 1 << 30)
  code = user_code.files()
  user_code._FILES.clear()
  protocol = ledger.SweepProtocol(num_images=4, num_chains=1, num_samples=4)
  job = ledger.Job(str(folder.path), plan.groups[0], protocol)
  folder.claim(plan.new)
  with pytest.raises(UserError, match="only if you ask for it"):
    conductor.run(job)
  conductor.run(dataclasses.replace(job, code=code))
  (result,) = folder.results(plan.groups[0])
  assert np.isfinite(result.best_bound)
  model = infusion_jax.load(folder.run(result.run))
  assert model.about["network_code"] == user_code.digest("theirs.py:Shift")


@pytest.mark.parametrize(
  ("name", "told"),
  [
    ("Missing", "has no Flax module 'Missing'"),
    ("Gaussian", "has no Flax module 'Gaussian'"),
    ("Flat", r"must return a Gaussian .* \(2, 4, 4, 1\); it returns Gaussian of"),
    ("Fails", r"fails on images of shape \(4, 4, 1\): .*theirs\.py, line \d+"),
    ("Demanding", "fails on images of shape .*depth"),
  ],
)
def test_a_network_that_does_not_fit_is_told(file, name, told):
  user_code.run(file)
  with pytest.raises(UserError, match=told):
    built(f"{file}:{name}")


@pytest.mark.parametrize(
  ("source", "told"),
  [
    ("1 +", "SyntaxError"),
    ("\nimport no_such_module_anywhere", r"no_such_module_anywhere.*line 2"),
    ("raise SystemExit(3)", "SystemExit: 3"),
  ],
)
def test_a_file_that_cannot_be_run_is_told(tmp_path, source, told):
  path = tmp_path / "broken.py"
  path.write_text(source)
  with pytest.raises(UserError, match=rf"model\.name is .*broken\.py.*{told}"):
    user_code.run_named(f"{path}:Net")
  assert user_code.files() == ()


def test_only_python_files_are_run(tmp_path):
  with pytest.raises(UserError, match="none.py cannot be read: No such file"):
    user_code.run(tmp_path / "none.py")
  with pytest.raises(UserError, match="is no .py file"):
    user_code.run(pathlib.Path(tmp_path / "weights.npz"))
  user_code.run_named("mlp")
  assert user_code.parts("mlp") is None
  assert user_code.parts("a/b.py:C") == ("a/b.py", "C")
