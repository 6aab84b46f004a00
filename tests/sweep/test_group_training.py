"""Groups of runs trained as one program: each as if it were alone."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import random, sampling
from infusion_jax.errors import UserError
from infusion_jax.likelihood import importance
from infusion_jax.sweep import conductor, cost, group_training, ledger, vmapped
from infusion_jax.sweep import overrides as sweeps
from infusion_jax.sweep.ledger import Folder, Group, Job, Plan, SweepProtocol
from infusion_jax.terminal import training_log
from infusion_jax.training import epochs, loop, metrics_log, signals
from infusion_jax.training.state import initial_state, make_recipe, make_run

DATA = runs.dataset()
PROTOCOL = SweepProtocol(num_images=10, num_chains=2, num_samples=3)
RATES = (0.05, 0.1, 0.2)


@pytest.fixture(autouse=True, scope="module")
def tiny_data():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(conductor, "load_dataset", lambda data: DATA)
    yield


def of_rates(rates=RATES, **train):
  base = runs.config(**train)
  return Group(tuple(sweeps.configs(base, sweeps.sweep("chain.omega", rates))))


def of_everything(learning_rates, **train):
  """Runs that differ in all that runs of a group can differ in."""
  overrides = sweeps.zipped(
    sweeps.sweep("chain.alpha0", [0.0, 0.1, 0.2]),
    sweeps.sweep("chain.target_variance", [1e-4, 2e-4, 3e-4]),
    sweeps.sweep("train.seed", [0, 1, 2]),
    sweeps.sweep("train.learning_rate", learning_rates),
    sweeps.sweep("train.decay", ["constant", "cosine", "constant"]),
  )
  return Group(tuple(sweeps.configs(runs.config(**train), overrides)))


def train(path, group, together=0):
  folder = Folder(pathlib.Path(path))
  folder.claim([group])
  conductor.run(Job(str(path), group, PROTOCOL, together=together))
  return folder


def table(folder, group):
  """All that a group leaves in its folder but wall times, and the weights."""
  place = folder.group(group)
  names = (ledger.RESULTS_FILE, ledger.EVALUATION_FILE, metrics_log.FILE)
  weights = [infusion_jax.load(folder.run(run)).weights for run in group.runs]
  return [(place / name).read_bytes() for name in names], weights


def assert_same_table(folder, other, group):
  (files, weights), (others, other_weights) = table(folder, group), table(other, group)
  assert files == others
  jax.tree.map(np.testing.assert_array_equal, weights, other_weights)


def assert_close_tables(folder, other, group):
  """Compares the tables of one group but for rounding."""
  for ours, theirs in zip(folder.results(group), other.results(group), strict=True):
    assert theirs.best_bound == pytest.approx(ours.best_bound, rel=1e-3, abs=0.02)
    assert theirs.best_epoch == ours.best_epoch
  measured, others = (f.evaluation(group, PROTOCOL) for f in (folder, other))
  for run in group.runs:
    expected = pytest.approx(measured[run]["test_bound"], rel=1e-3, abs=0.05)
    assert others[run]["test_bound"] == expected


def assert_as_if_alone(folder, group, index, path):
  """Compares a run of a trained group with `loop.fit` of its configuration."""
  run = group.runs[index]
  outcome = loop.fit(group.configs[index], DATA, path, progress=False)
  result = folder.results(group)[index]
  assert (result.epochs, result.best_epoch) == (outcome.epochs, outcome.best_epoch)
  assert result.best_bound == pytest.approx(outcome.best_bound, rel=1e-3, abs=0.02)
  rows, own = (
    metrics_log.read(f / metrics_log.FILE) for f in (folder.group(group), path)
  )
  for kind, split, name in (
    ("validation", "validation", "bound"),
    ("loss", "train", "loss"),
    ("gradient_norm", "train", "gradient_norm"),
  ):
    together = [row[run] for row in rows if row["split"] == kind and run in row]
    alone = [row[name] for row in own if row["split"] == split]
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=0.02)
  ours, alone = infusion_jax.load(folder.run(run)), infusion_jax.load(path)
  assert ours.config == alone.config and ours.step == alone.step
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0.02, atol=2e-3),
    ours.weights,
    alone.weights,
  )


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
  group = of_rates(num_epochs=4)
  return train(tmp_path_factory.mktemp("sweep"), group), group


def test_what_runs_agree_on_is_not_repeated():
  stack = vmapped.stack([make_run(config, DATA) for config in of_rates().configs])
  assert stack.run.infusion.rates.shape == (3, 3)
  assert stack.run.infusion.prior.mean.shape == (4, 4, 1)
  assert stack.run.key.shape == () and stack.keys.shape == (3,)
  everything = of_everything([0.1, 0.2, 0.3]).configs
  stack = vmapped.stack([make_run(config, DATA) for config in everything])
  assert stack.run.key.shape == (3,) and stack.run.decay_steps.shape == (3,)


@pytest.mark.parametrize("together", [0, 1, 2, 3, 5])
def test_a_function_over_runs_however_many_at_once(together):
  def step(state, common, own):
    count, tree = state
    return (count + 1, {"a": tree["a"] * own + common, "b": None}), tree["a"].sum()

  axes = (None, 0)
  over = vmapped.over_runs(step, (axes, None, 0), (axes, 0), together=together)
  a, own = jnp.arange(6.0).reshape(3, 2), jnp.array([1.0, 2.0, 3.0])
  (count, tree), total = jax.jit(over)((jnp.array(4), {"a": a, "b": None}), 0.5, own)
  assert count == 5 and tree["b"] is None
  np.testing.assert_allclose(tree["a"], a * own[:, None] + 0.5)
  np.testing.assert_allclose(total, a.sum(1))


@pytest.mark.parametrize(
  ("runs_", "devices", "expected"), [(12, 8, 6), (3, 8, 3), (9, 8, 5), (16, 1, 1)]
)
def test_runs_are_shared_evenly(runs_, devices, expected, monkeypatch):
  monkeypatch.setattr(jax, "local_device_count", lambda: devices)
  assert vmapped.device_count(runs_) == expected


def test_runs_in_turn_give_the_same_table(rates, tmp_path):
  folder, group = rates
  assert_close_tables(folder, train(tmp_path, group, together=1), group)


def test_runs_of_different_rates_are_as_if_alone(rates, tmp_path):
  folder, group = rates
  for index in (0, 2):
    assert_as_if_alone(folder, group, index, tmp_path / str(index))


def test_runs_of_different_everything_end_as_if_alone(tmp_path, capsys, monkeypatch):
  # The second run starts from infinity, the third learns nothing.
  def poisoned(group):
    step, state = latest(group)
    parameters = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.inf), state.parameters)
    return step, state._replace(parameters=parameters)

  latest = group_training._Group.latest
  monkeypatch.setattr(group_training._Group, "latest", poisoned)
  group = of_everything([1e-3, 2e-3, 0.0], num_epochs=5, patience=2)
  folder = train(tmp_path / "sweep", group)
  good, diverged, stalled = folder.results(group)
  assert good.status == "finished"
  assert_as_if_alone(folder, group, 0, tmp_path / "good")
  assert diverged.status == "diverged" and diverged.failed_step == 0
  assert diverged.best_bound is None and not folder.run(diverged.run).exists()
  assert (stalled.status, stalled.epochs) == ("stopped early", stalled.best_epoch + 2)
  assert_as_if_alone(folder, group, 2, tmp_path / "stalled")
  told = capsys.readouterr().err
  assert f"run {diverged.run} (T = 3, rate increasing from 0.1: 0.1) diverged" in told
  assert (
    "in epoch 1 at step 0; 2 of the group's 3 runs go on" in told
    and "stopped early in epoch" in told
  )
  measured = folder.evaluation(group, PROTOCOL)
  assert set(measured) == {good.run, stalled.run}


def test_the_test_bound_is_that_of_the_run_alone(rates):
  folder, group = rates
  measured = folder.evaluation(group, PROTOCOL)[group.runs[1]]
  model = infusion_jax.load(folder.run(group.runs[1]))
  found = importance.evaluate(
    random.named(jax.random.key(0), "chains"),
    sampling.markov_chain(model.network, model.weights),
    DATA.test[:10],
    levels=DATA.levels,
    num_chains=2,
  )
  assert measured["test_bound"] == pytest.approx(found.bound.mean(), rel=1e-4)
  assert measured["standard_error"] > 0
  stored = np.load(folder.group(group) / ledger.SAMPLES_FILE)[group.runs[1]]
  keys = jax.random.split(random.named(jax.random.key(0), "samples"), 3)
  np.testing.assert_allclose(stored, model.sample(keys), atol=1e-4)


def test_another_protocol_measures_again_without_training(rates):
  folder, group = rates
  before = (folder.group(group) / metrics_log.FILE).read_bytes()
  other = dataclasses.replace(PROTOCOL, num_images=5)
  first = folder.evaluation(group, PROTOCOL)
  conductor.run(Job(str(folder.path), group, other, together=0))
  second = folder.evaluation(group, other)
  assert second.keys() == first.keys() and second != first
  assert (folder.group(group) / metrics_log.FILE).read_bytes() == before
  conductor.run(Job(str(folder.path), group, PROTOCOL, together=0))
  assert folder.evaluation(group, PROTOCOL) == first


def test_killed_after_an_epoch_and_launched_again(rates, tmp_path, monkeypatch):
  def killed(folder, epoch, seconds):
    if epoch == 3:
      raise MemoryError("killed")

  folder, group = rates
  with monkeypatch.context() as patch:
    patch.setattr(epochs, "_note_time", killed)
    with pytest.raises(MemoryError):
      train(tmp_path, group)
  assert ledger.plan(Folder(tmp_path), group.configs).begun == (group,)
  assert_same_table(folder, train(tmp_path, group), group)


def test_stopped_in_the_middle_of_an_epoch_and_launched_again(
  rates, tmp_path, monkeypatch
):
  taken = []

  def steps(log, count, seconds):
    taken.append(count)
    if sum(taken) == 6:
      os.kill(os.getpid(), signal.SIGTERM)

  folder, group = rates
  with monkeypatch.context() as patch:
    patch.setattr(training_log.Lines, "steps", steps)
    patch.setattr(group_training._Group, "chunk_seconds", 0.0)
    with pytest.raises(signals.Stopped, match="step 6 of group"):
      train(tmp_path, group)
  assert_same_table(folder, train(tmp_path, group), group)


def test_killed_before_the_results_are_written(rates, tmp_path, monkeypatch):
  folder, group = rates
  with monkeypatch.context() as patch:
    patch.setattr(Folder, "write_results", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      train(tmp_path, group)
  assert_same_table(folder, train(tmp_path, group), group)
  assert not (Folder(tmp_path).group(group) / "checkpoints").exists()


def test_weights_of_another_run_start_a_run(rates, tmp_path):
  folder, group = rates
  start = str(folder.run(group.runs[0]))
  overrides = sweeps.zipped(
    sweeps.sweep("train.init_from", [start, ""]),
    sweeps.sweep("chain.omega", [0.1, 0.2]),
  )
  base = runs.config(num_epochs=1, learning_rate=0.0)
  second = Group(tuple(sweeps.configs(base, overrides)))
  trained = train(tmp_path, second)
  old = infusion_jax.load(start).weights.parameters
  new, fresh = (infusion_jax.load(trained.run(run)) for run in second.runs)
  jax.tree.map(np.testing.assert_array_equal, old, new.weights.parameters)
  kernel = old.shared["Dense_0"]["kernel"]
  assert (fresh.weights.parameters.shared["Dense_0"]["kernel"] != kernel).any()


def test_more_rates_are_added_to_what_is_there(rates):
  folder, group = rates
  more = of_rates((0.1, 0.15, 0.2, 0.25), num_epochs=4)
  plan = ledger.plan(folder, more.configs)
  assert plan.finished == (group,) and not plan.begun
  assert [config.chain.omega for config in plan.new[0].configs] == [0.15, 0.25]
  # Where the data are and how often is saved makes no other run.
  moved = [sweeps.replaced(c, "data.path", "elsewhere") for c in group.configs]
  plan = ledger.plan(folder, moved)
  assert not plan.new and plan.finished[0].configs[0].data.path == "elsewhere"


def test_groups_in_training_stay_as_they_are(tmp_path):
  folder = Folder(tmp_path)
  begun, other = of_rates((0.1, 0.2)), of_rates((0.3,))
  folder.claim([begun, other])
  plan = ledger.plan(folder, of_rates((0.2, 0.25)).configs)
  assert plan.begun == (begun,) and plan.other == (other,)
  assert [config.chain.omega for config in plan.new[0].configs] == [0.25]


def test_a_group_is_cut_where_it_would_not_fit():
  group = of_rates((0.05, 0.1, 0.15, 0.2, 0.25))
  one = conductor.group_cost(group)
  limit = one.data_bytes + 2 * one.run_bytes
  parts = conductor.split(Plan(new=(group,)), limit).new
  assert [len(part.configs) for part in parts] == [2, 1, 2]
  assert sum((part.configs for part in parts), ()) == group.configs
  assert conductor.split(Plan(new=(group,)), 10 * limit).new == (group,)
  with pytest.raises(UserError, match=r"limited to .* GB; one run with T = 3 needs"):
    conductor.split(Plan(new=(group,)), one.data_bytes)


def test_a_split_group_gives_the_same_table(rates, tmp_path):
  folder, group = rates
  part = Group(group.configs[:2])
  other = train(tmp_path, part)
  for whole, cut in zip(folder.results(group), other.results(part), strict=False):
    assert cut.best_bound == pytest.approx(whole.best_bound, rel=1e-3, abs=0.02)
    assert cut.best_epoch == whole.best_epoch


@pytest.mark.parametrize("objective", ["denoising", "lower_bound"])
def test_the_estimated_memory_is_that_of_the_program(objective):
  config = runs.config(objective=objective, batch_size=64)
  config = sweeps.apply(config, {"model.hidden_sizes": (64, 64)})
  recipe, run = make_recipe(config, DATA), make_run(config, DATA)
  stack = vmapped.stack([run] * 4)
  program = vmapped.compiled(recipe, stack.axes, None)
  state = jax.eval_shape(program.initial_state, stack.keys)
  compiled = program.train_steps.lower(
    state, stack.run, jnp.asarray(DATA.train), jnp.asarray(1), None
  ).compile()
  used = compiled.memory_analysis()
  real = used.argument_size_in_bytes + used.temp_size_in_bytes
  estimate = 4 * cost.estimate(recipe, DATA).run_bytes
  assert 0.8 * real < estimate < 2.5 * real


def test_the_estimated_parameters_and_arithmetic_are_those_of_the_network():
  config = runs.config()
  found = cost.estimate(make_recipe(config, DATA), DATA)
  parameters = initial_state(make_recipe(config, DATA), jax.random.key(0)).parameters
  assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(parameters))
  # Two products of 16 x 8 and 8 x 32 an image and step; the rest is small change.
  products = 2 * (16 * 8 + 8 * 32) * 3 * (3 * 70 + 20)
  assert products < found.flops_per_epoch < 3 * products


def test_a_workdir_of_something_else_is_refused(tmp_path):
  (tmp_path / "letter.txt").write_text("dear")
  with pytest.raises(UserError, match="holds no sweep"):
    ledger.plan(Folder(tmp_path), of_rates().configs)
  with pytest.raises(UserError, match="is a file"):
    ledger.plan(Folder(tmp_path / "letter.txt"), of_rates().configs)


def test_damaged_files_end_with_one_sentence(tmp_path):
  group = of_rates((0.1,))
  folder = Folder(tmp_path)
  folder.claim([group])
  (folder.group(group) / ledger.RESULTS_FILE).write_text("{")
  with pytest.raises(UserError, match=r"results\.json cannot be read"):
    ledger.plan(folder, group.configs)
  (folder.group(group) / ledger.GROUP_FILE).write_text('{"format_version": 99}')
  with pytest.raises(UserError, match="format version 99"):
    ledger.plan(folder, group.configs)


@pytest.mark.parametrize(
  ("change", "told"),
  [
    ({"chain.omega": 0.9}, "infusion rate"),
    ({"train.batch_size": 71}, "batch_size is 71"),
    ({"model.name": "gan"}, "'gan'; allowed are"),
    ({"train.init_from": "nowhere"}, "init_from is 'nowhere'"),
  ],
)
def test_wrong_runs_are_found_before_any_work(change, told):
  with pytest.raises(UserError, match=told):
    conductor.check([sweeps.apply(runs.config(), change)])


@pytest.mark.parametrize(
  ("values", "told"),
  [({"num_chains": 0}, "num_chains is 0"), ({"seed": -1}, "seed is")],
)
def test_wrong_protocols_are_refused(values, told):
  with pytest.raises(UserError, match=told):
    SweepProtocol(**values)


_ON_DEVICES = """
import sys, pathlib
import jax
import runs
from infusion_jax.sweep import overrides as sweeps
from infusion_jax.sweep import conductor
from infusion_jax.sweep.ledger import Folder, Group, Job, SweepProtocol

assert jax.local_device_count() == {devices}
conductor.load_dataset = lambda data: runs.dataset()
base = runs.config(num_epochs=4)
group = Group(tuple(sweeps.configs(base, sweeps.sweep("chain.omega", {rates}))))
folder = Folder(pathlib.Path(sys.argv[1]))
folder.claim([group])
protocol = SweepProtocol(num_images=10, num_chains=2, num_samples=3)
conductor.run(Job(sys.argv[1], group, protocol, together={together}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "together"), [(8, 0), (2, 1)])
def test_several_devices_give_the_same_table(devices, together, rates, tmp_path):
  # Two devices take two runs each, of which one fills up.
  folder, group = rates
  root = pathlib.Path(__file__).parents[2]
  flag = f"--xla_force_host_platform_device_count={devices}"
  environment = {
    **os.environ,
    "PYTHONPATH": f"{root}:{root / 'tests'}",
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}",
    "JAX_PLATFORMS": "cpu",
  }
  script = _ON_DEVICES.format(rates=RATES, devices=devices, together=together)
  done = subprocess.run(
    [sys.executable, "-c", script, str(tmp_path)],
    env=environment,
    capture_output=True,
    text=True,
    timeout=900,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert_close_tables(folder, Folder(tmp_path), group)
