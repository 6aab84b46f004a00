"""Runs of bits: trained, resumed, loaded, measured."""

import dataclasses

import jax
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import UserError, datasets
from infusion_jax.config import ChainConfig, DataConfig
from infusion_jax.evaluation import Protocol, Session, references_of
from infusion_jax.sweep import vmapped
from infusion_jax.training import loop
from infusion_jax.training.state import make_recipe, make_run


def config(**train):
  chain = ChainConfig(num_steps=3, omega=0.2, states="bernoulli")
  return dataclasses.replace(runs.config(**train), chain=chain)


@pytest.fixture(scope="module")
def data():
  """Images of 4x4 bits whose halves agree."""
  generator = np.random.default_rng(0)

  def images(count):
    half = generator.integers(0, 2, (count, 4, 2, 1), dtype=np.uint8)
    return np.concatenate([half, half], axis=2)

  return datasets.Dataset("halves", images(400), images(40), images(40), levels=1)


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp("bits") / "run"
  train = {"num_epochs": 20, "checkpoint_every": 10, "learning_rate": 0.01}
  loop.fit(config(**train), data, folder, progress=False)
  return folder


def test_samples_are_bits_and_look_like_the_data(workdir, key):
  model = infusion_jax.load(workdir)
  means = model.sample(key, 64)
  assert means.min() >= 0 and means.max() <= 1
  drawn = model.sample(key, 64, mean=False)
  assert set(np.unique(drawn).tolist()) == {0.0, 1.0}
  agree = (drawn[:, :, :2] == drawn[:, :, 2:]).mean()
  assert agree > 0.6
  chains = model.chain(key, 3)
  assert set(np.unique(chains.states).tolist()) == {0.0, 1.0}
  known = np.zeros((4, 4), bool)
  known[:, :2] = True
  completed = model.inpaint(key, drawn, known)
  np.testing.assert_array_equal(completed[:, :, :2], drawn[:, :, :2])


def test_a_run_of_bits_resumes_bit_for_bit(data, workdir, tmp_path):
  for epochs in (10, 20):
    train = {"num_epochs": epochs, "checkpoint_every": 10, "learning_rate": 0.01}
    loop.fit(config(**train), data, tmp_path, progress=False)
  assert runs.rows(tmp_path) == runs.rows(workdir)


def test_bits_are_measured_in_nats_of_bits(data, workdir, tmp_path):
  protocol = Protocol(num_images=20, num_chains=20)
  model = infusion_jax.load(workdir)
  session = Session(model, data, protocol, tmp_path, progress=False)
  (bound,) = session.measure("bound")
  (histogram,) = session.measure("histogram")
  # Eight free bits: -8 log 2 nats is the best there is, -16 log 2 knows nothing.
  assert -16 * np.log(2) < bound["value"] < -8 * np.log(2)
  assert histogram["value"] == pytest.approx(-16 * np.log(2), abs=0.3)
  assert bound["protocol"]["dequantization"] == "none: bits"
  bits = bound["details"]["bits_per_dimension"]
  assert bits == pytest.approx(-bound["value"] / 16 / np.log(2))
  assert references_of(["bound"], data) == ["histogram"]
  for name in ("ais", "isotropic", "discrete", "gaussian"):
    with pytest.raises(UserError, match=f"{name}.*bernoulli"):
      session.measure(name)


def test_a_group_of_runs_has_the_structure_of_bits(data):
  made = config()
  recipe = make_recipe(made, data)
  stack = vmapped.stack([make_run(made, data)] * 2)
  group = vmapped.compiled(recipe, stack.axes, None)
  shapes = jax.eval_shape(group.initial_state, stack.keys)
  assert jax.tree.leaves(shapes.parameters)[0].shape[0] == 2


def test_bits_and_states_go_together(data):
  with pytest.raises(UserError, match="pixels of halves are bits"):
    loop.check_fits(runs.config(), data)
  with pytest.raises(UserError, match="pixels of tiny are no bits"):
    loop.check_fits(config(), runs.dataset())


@pytest.mark.parametrize(
  "train", [{"objective": "lower_bound"}, {"likelihood": "discrete"}]
)
def test_only_denoising_trains_bits(train, data):
  with pytest.raises(UserError, match="no gradient flows"):
    loop.check_fits(config(**train), data)


def test_rivals_take_no_bits(data):
  with pytest.raises(UserError, match=r"'vae'.*for 'infusion' alone"):
    loop.check_fits(config(method="vae"), data)


def test_data_become_bits_the_same_everywhere():
  plain = datasets.from_config(DataConfig())
  for how in ("threshold", "sampled"):
    found = datasets.from_config(DataConfig(binarize=how))
    part = datasets.from_config(DataConfig(binarize=how, max_images=50))
    assert found.levels == 1 and set(np.unique(found.test).tolist()) == {0, 1}
    np.testing.assert_array_equal(part.train, found.train[:50])
    # Black and white stay what they are.
    np.testing.assert_array_equal(found.train[plain.train == 0], 0)
    np.testing.assert_array_equal(found.train[plain.train == 16], 1)
    middle = found.train[plain.train == 8].mean()
    assert middle == 0.0 if how == "threshold" else abs(middle - 0.5) < 0.06
