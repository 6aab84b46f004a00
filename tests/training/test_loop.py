"""Whole runs: repeatable, resumable, careful."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs

from infusion_jax import random, sampling
from infusion_jax.errors import UserError
from infusion_jax.metrics import parzen
from infusion_jax.sampling import markov_chain
from infusion_jax.storage import weights as stored
from infusion_jax.storage.checkpoints import Checkpoints
from infusion_jax.training import loop, metrics_log, programs, signals, snapshot
from infusion_jax.training.state import make_recipe, make_run


def fit(folder, **train):
  return loop.fit(runs.config(**train), runs.dataset(), folder, progress=False)


def final_state(folder, **train):
  config, data = runs.config(**train), runs.dataset()
  checkpoints = Checkpoints(folder)
  recipe, run = make_recipe(config, data), make_run(config, data)
  step = checkpoints.steps()[-1]
  about = checkpoints.about(step)
  state = snapshot.restore(checkpoints, step, recipe, run)
  model = checkpoints.model(step, stored.like(recipe.network))
  checkpoints.close()
  return state, model, about


def assert_same_run(a, b, **train):
  first, second = final_state(a, **train), final_state(b, **train)
  jax.tree.map(np.testing.assert_array_equal, first[:2], second[:2])
  assert first[2]["best_bound"] == second[2]["best_bound"]
  assert runs.rows(a) == runs.rows(b)


@pytest.fixture(scope="module")
def six_epochs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "six"
  fit(folder, num_epochs=6)
  return folder


def test_one_seed_gives_one_result_bit_for_bit(six_epochs, tmp_path):
  fit(tmp_path / "again", num_epochs=6)
  assert_same_run(six_epochs, tmp_path / "again", num_epochs=6)


def test_another_seed_gives_another_result(six_epochs, tmp_path):
  fit(tmp_path / "other", num_epochs=1, seed=1)
  first = runs.rows(tmp_path / "other").splitlines()[0]
  assert first != runs.rows(six_epochs).splitlines()[0]


def test_three_epochs_and_three_more_are_six(six_epochs, tmp_path):
  fit(tmp_path / "resumed", num_epochs=3)
  fit(tmp_path / "resumed", num_epochs=6)
  assert_same_run(six_epochs, tmp_path / "resumed", num_epochs=6)


@pytest.mark.parametrize(
  "options",
  [
    {"clip": 1.0, "ema_decay": 0.9},
    {"objective": "lower_bound", "clip": 1.0},
    {"objective": "hybrid", "likelihood": "discrete"},
    {"objective": "importance_weighted", "num_chains": 3, "score_free": True},
  ],
  ids=str,
)
def test_runs_with_other_states_and_criteria_resume_to_the_same_bits(options, tmp_path):
  fit(tmp_path / "whole", num_epochs=2, **options)
  fit(tmp_path / "resumed", num_epochs=1, **options)
  fit(tmp_path / "resumed", num_epochs=2, **options)
  assert_same_run(tmp_path / "whole", tmp_path / "resumed", num_epochs=2, **options)


def test_stopped_in_the_middle_of_an_epoch_and_resumed(
  six_epochs, tmp_path, monkeypatch
):
  # Epoch 2 has begun.
  with runs.signal_at(6, monkeypatch), pytest.raises(signals.Stopped, match="step 6"):
    fit(tmp_path / "stopped", num_epochs=6)
  fit(tmp_path / "stopped", num_epochs=6)
  assert_same_run(six_epochs, tmp_path / "stopped", num_epochs=6)


def test_a_log_begins_with_what_is_trained(tmp_path, capsys):
  fit(tmp_path, num_epochs=1)
  first, epoch = capsys.readouterr().err.splitlines()
  assert first.startswith("cpu: ")
  count = f"{parameter_count():,} parameters; 4 steps, 4 an epoch; so few"
  assert count in first
  bound = metrics_log.series(metrics_log.read(tmp_path / "metrics.jsonl"), "bound")
  told = f"{bound['validation'][1][0]:.2f}"
  assert epoch.startswith(f"epoch 1/1  bound {told}  best {told} (epoch 1)  ")
  fit(tmp_path, num_epochs=1)
  assert capsys.readouterr().err.strip().endswith("goes on after step 4")


def parameter_count() -> int:
  """16 pixels to 8 units to two heads; scale and bias of 3 steps."""
  return 16 * 8 + 2 * (8 + 1) * 16 + 3 * 2 * 8


def test_a_finished_run_is_left_alone(six_epochs):
  before = runs.rows(six_epochs)
  outcome = fit(six_epochs, num_epochs=6)
  assert outcome.epochs == 6
  assert runs.rows(six_epochs) == before


def test_metrics_of_an_epoch_lost_to_a_kill_are_written_once(six_epochs, tmp_path):
  fit(tmp_path / "killed", num_epochs=3)
  with (tmp_path / "killed" / metrics_log.FILE).open("a") as stream:
    stream.write('{"step": 16, "epoch": 4, "split": "validation", "bound": 1.0}\n')
    stream.write('{"step": 16, "epo')
  fit(tmp_path / "killed", num_epochs=6)
  assert runs.rows(tmp_path / "killed") == runs.rows(six_epochs)


def test_every_epoch_has_its_rows(six_epochs):
  rows = [json.loads(line) for line in runs.rows(six_epochs).splitlines()]
  assert [(r["epoch"], r["split"]) for r in rows] == [
    (e, split) for e in range(1, 7) for split in ("validation", "train")
  ]
  assert {
    "loss",
    "gradient_norm",
    "bound",
    "prior",
    "per_step",
    "reconstruction",
  } < set(rows[1])
  assert [r["step"] for r in rows[::2]] == [4, 8, 12, 16, 20, 24]


def test_the_last_checkpoint_holds_population_statistics_and_pictures(six_epochs):
  state, model, about = final_state(six_epochs, num_epochs=6)
  assert about["statistics"] == "population"
  assert about["best_epoch"] == int(state.best.epoch)
  running = state.best.statistics["StepBatchNorm_0"]["variance"]
  assert (model["statistics"]["StepBatchNorm_0"]["variance"] != running).any()
  assert len(list((six_epochs / "samples").glob("*.png"))) == 2


def test_patience_ends_a_run(tmp_path):
  # A learning rate of 0 never improves on the first epoch.
  outcome = fit(tmp_path, num_epochs=50, learning_rate=0.0, patience=2)
  assert outcome.stopped_early and outcome.epochs <= 8


def test_a_diverging_run_stops_and_keeps_its_last_checkpoint(tmp_path):
  fit(tmp_path / "run", num_epochs=2)
  checkpoints = Checkpoints(tmp_path / "run")
  before = checkpoints.steps()
  state, _, _ = final_state(tmp_path / "run", num_epochs=2)
  poisoned = jax.tree.map(lambda leaf: leaf * float("inf"), state.parameters)
  state = state._replace(parameters=poisoned)
  with pytest.MonkeyPatch.context() as patch:
    # Fresh buffers at every call: training donates them.
    patch.setattr(loop.snapshot, "restore", lambda *_: jax.tree.map(jnp.array, state))
    with pytest.raises(UserError, match=r"not finite .*at step 8 .* that of step 8"):
      fit(tmp_path / "run", num_epochs=4)
  assert checkpoints.steps() == before
  assert fit(tmp_path / "run", num_epochs=4).epochs == 4


def test_another_configuration_on_the_same_workdir_is_refused(six_epochs):
  before = (six_epochs / "config.json").read_bytes()
  with pytest.raises(UserError, match=r"train.learning_rate = 0.001, not 0.5"):
    fit(six_epochs, num_epochs=6, learning_rate=0.5)
  assert (six_epochs / "config.json").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path):
  (tmp_path / "letter.txt").write_text("dear")
  with pytest.raises(UserError, match="not empty"):
    fit(tmp_path)
  assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"batch_size is 71; .* only 70 images"):
    fit(tmp_path / "run", batch_size=71)
  assert not (tmp_path / "run").exists()


def test_weights_of_another_run_start_a_run(six_epochs, tmp_path):
  fit(
    tmp_path / "run",
    num_epochs=1,
    objective="lower_bound",
    learning_rate=0.0,
    init_from=str(six_epochs),
  )
  _, old, _ = final_state(six_epochs, num_epochs=6)
  _, new, _ = final_state(tmp_path / "run", num_epochs=1, objective="lower_bound")
  jax.tree.map(np.testing.assert_array_equal, old["shared"], new["shared"])


def test_init_from_a_folder_without_a_checkpoint_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"init_from is .*nothing"):
    fit(tmp_path / "run", init_from=str(tmp_path / "nothing"))
  assert not (tmp_path / "run").exists()


def test_tensorboard_files_on_demand(tmp_path):
  pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
  loop.fit(
    runs.config(num_epochs=1),
    runs.dataset(),
    tmp_path,
    tensorboard=True,
    progress=False,
  )
  assert list((tmp_path / "tensorboard").iterdir())


def test_all_options_together_resume_bit_for_bit(tmp_path):
  options = {"ema_decay": 0.9, "clip": 1.0, "objective": "lower_bound"}
  fit(tmp_path / "whole", num_epochs=4, **options)
  fit(tmp_path / "parts", num_epochs=2, **options)
  fit(tmp_path / "parts", num_epochs=4, **options)
  assert_same_run(tmp_path / "whole", tmp_path / "parts", num_epochs=4, **options)


def test_parzen_estimates_are_of_the_epoch_and_do_not_disturb(six_epochs, tmp_path):
  settings = {"num_epochs": 6, "parzen_every": 3, "parzen_samples": 40}
  folder = tmp_path / "windows"
  fit(folder, **settings)
  rows = metrics_log.read(folder / "metrics.jsonl")
  measured = [row for row in rows if "parzen" in row]
  assert [(row["epoch"], row["split"]) for row in measured] == [
    (3, "validation"),
    (6, "validation"),
  ]
  others = [row for row in rows if "parzen" not in row]
  assert others == metrics_log.read(six_epochs / "metrics.jsonl")

  state, _, _ = final_state(folder, **settings)
  config, data = runs.config(**settings), runs.dataset()
  network, run = make_recipe(config, data).network, make_run(config, data)
  weights = sampling.Weights(state.parameters, state.statistics, run.infusion)
  keys = jax.random.split(random.named(run.key, "parzen"), 40)
  means = sampling.predict(markov_chain(network, weights), keys).mean
  found = parzen.evaluate(data.validation.astype(np.float32) / 17, np.asarray(means))
  np.testing.assert_allclose(measured[-1]["parzen"], found.mean, rtol=1e-5)


def test_parzen_of_averaged_weights_uses_their_own_statistics(tmp_path):
  """Not the running statistics of the weights that are trained."""
  settings = {"num_epochs": 1, "parzen_every": 1, "ema_decay": 0.9}
  settings["parzen_samples"] = 40
  fit(tmp_path, **settings)
  rows = metrics_log.read(tmp_path / "metrics.jsonl")
  (measured,) = [row["parzen"] for row in rows if "parzen" in row]
  state, _, _ = final_state(tmp_path, **settings)
  config, data = runs.config(**settings), runs.dataset()
  recipe, run = make_recipe(config, data), make_run(config, data)
  own = programs.compiled(recipe).population_statistics(
    state.average,
    random.named(run.key, "population"),
    run.infusion,
    jnp.asarray(data.train),
  )
  keys = jax.random.split(random.named(run.key, "parzen"), 40)

  def estimate(statistics):
    weights = sampling.Weights(state.average, statistics, run.infusion)
    means = np.asarray(
      sampling.predict(markov_chain(recipe.network, weights), keys).mean
    )
    return parzen.evaluate(data.validation.astype(np.float32) / 17, means).mean

  np.testing.assert_allclose(measured, estimate(own), rtol=1e-5)
  assert abs(measured - estimate(state.statistics)) > 1e-3
