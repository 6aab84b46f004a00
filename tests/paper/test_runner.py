"""Making targets: all layouts on tiny data, resuming, skipping, being stopped."""

import dataclasses
import json
import os
import re
import signal

import numpy as np
import pytest
from launching import launch, tree
from PIL import Image
from reliability import faults

from infusion_jax.errors import UserError
from infusion_jax.evaluation import Parts, pictures
from infusion_jax.metrics.extractors import Extractor, Predictions
from infusion_jax.paper import recipes, records, runs, targets
from infusion_jax.paper.descriptions import Book
from infusion_jax.training import precision, signals, workdir

COMMAND = "python -m experiments.reproduce --target=X"


def make(runner, names):
  tasks = runner.plan(runner.book.chosen(names))
  runner.make(tasks, {task.target.name: COMMAND for task in tasks})
  return tasks


def fake_inception(path):
  """Tells images apart by their mean: enough for a score."""

  def predict(images):
    mean = np.clip(images.mean((1, 2, 3), keepdims=False), 0.01, 0.99)
    probabilities = np.stack([mean, 1 - mean], 1)
    return Predictions(images.reshape(len(images), -1)[:, :3], probabilities)

  return Extractor("inception", predict)


@pytest.mark.slow
def test_every_target_is_made_and_none_twice(runner, monkeypatch, tmp_path):
  monkeypatch.setitem(pictures._LOADERS, "inception", fake_inception)
  weights = tmp_path / "inception.npz"
  weights.write_bytes(b"weights")
  bench = dataclasses.replace(runner.bench, inception=str(weights))
  runner = dataclasses.replace(runner, bench=bench)
  assert {task.state for task in make(runner, "all")} == {"to be made"}
  for target in runner.book.targets.values():
    result = records.read(runner.out, target.name, "small")
    assert result["provenance"]["command"] == COMMAND
    assert result["notes"] and all("small scale" in note for note in result["notes"])
    for name in result["pictures"]:
      with Image.open(runner.out / target.name / "small" / name) as picture:
        assert min(picture.size) > 50
    text = (runner.out / target.name / "small/table.md").read_text()
    assert target.title in text and "small scale" in text
  # Nothing in the results tells where on this machine they were made.
  for name, content in tree(runner.out).items():
    if not name.endswith(".png"):
      assert str(tmp_path) not in content.decode(), name
  names = [n["name"] for n in records.read(runner.out, "table_3_1", "small")["numbers"]]
  assert "Infusion (IS), test" in names and "VAE-50 (AIS), test" in names
  before = tree(runner.out)
  again = dataclasses.replace(runner)
  assert {task.state for task in make(again, "all")} == {"finished"}
  assert tree(runner.out) == before


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["figure_3_3", pytest.param("table_a1", marks=pytest.mark.long)]
)
def test_death_at_any_write_changes_no_bit(runner, tmp_path, name):
  """Trained models, what is measured on them, the record and its picture.

  The figure is of one run; the table of a sweep, whose deaths `test_faults` has, too.
  """

  def command(folder):
    bench = dataclasses.replace(runner.bench, workdir=folder / "work")
    make(dataclasses.replace(runner, bench=bench, out=folder / "out"), name)

  def result(folder):
    record = records.read(folder / "out", name, "small")
    pictures = {
      path.name: path.read_bytes() for path in (folder / "out").rglob("*.png")
    }
    return record["numbers"], pictures

  def same(found, expected):
    assert found == expected

  whole = bool(os.environ.get("INFUSION_JAX_SOAK"))
  deaths = faults.survives(tmp_path, command, result, same, 1 if whole else 37)
  print(name, deaths)


def test_a_target_is_made_again_when_its_description_changes(runner, book):
  make(runner, "figure_3_1")
  target = book.targets["figure_3_1"]
  changed = dataclasses.replace(target, small={"rows": 3})
  other = dataclasses.replace(runner, book=Book(book.runs, {target.name: changed}))
  (task,) = make(other, "figure_3_1")
  assert task.state == "to be made"
  assert records.read(runner.out, "figure_3_1", "small")["options"] == {"rows": 3}
  # The model was trained once.
  assert len(workdir.read_launches(runner.bench.folder(book.runs["mnist"]))) == 1


def test_targets_share_their_models_and_plans_say_what_is_left(runner, book):
  tasks = runner.plan(book.chosen("figure_3_1,figure_3_3"))
  text = runner.describe(tasks)
  assert "targets to be made: 2" in text and "| mnist | mnist | new " in text
  (hours,) = re.findall(r"at most, (\S+) hours on this machine", text)
  assert 0 < float(hours) < 1
  assert not runner.out.exists() and not runner.bench.workdir.exists()
  make(runner, "figure_3_1")
  text = runner.describe(runner.plan(book.chosen("figure_3_1,figure_3_3")))
  assert "targets to be made: 1; training left: 0 TFLOP" in text
  assert "| figure_3_1 | Figure 3.1 | finished   |" in text
  make(runner, "figure_3_3")
  assert len(workdir.read_launches(runner.bench.folder(book.runs["mnist"]))) == 1
  numbers = records.read(runner.out, "figure_3_3", "small")["numbers"]
  assert [n["name"].split(",")[0] for n in numbers] == [
    "lower bound",
    "Parzen estimate",
  ]


def test_plans_of_a_run_whose_type_is_chosen_by_time(runner, book, monkeypatch):
  monkeypatch.setattr(precision, "_SECONDS", 0.01)
  mnist = book.runs["mnist"]
  auto = dataclasses.replace(mnist, small={**mnist.small, "model.dtype": "auto"})
  other = Book(book.runs | {mnist.name: auto}, book.targets)
  runner = dataclasses.replace(runner, book=other)
  text = runner.describe(runner.plan(other.chosen("figure_3_1")))
  assert "| mnist | mnist | new " in text and not runner.bench.workdir.exists()
  make(runner, "figure_3_1")
  trained = workdir.read_config(runner.bench.folder(auto)).model.dtype
  assert trained in ("float32", "bfloat16")
  (task,) = runner.plan(other.chosen("figure_3_1"))
  assert task.state == "finished"


def test_killed_while_measuring_it_goes_on(runner, monkeypatch):
  def stopped(materials):
    raise signals.Stopped("stopped")

  with monkeypatch.context() as patch:
    patch.setitem(recipes.LAYOUTS, "chains", stopped)
    with pytest.raises(signals.Stopped):
      make(runner, "figure_3_1")
  assert records.read(runner.out, "figure_3_1", "small") is None
  make(dataclasses.replace(runner), "figure_3_1")
  assert records.read(runner.out, "figure_3_1", "small") is not None


def test_a_signal_stops_a_measurement_which_goes_on_later(runner, book, monkeypatch):
  handler = signal.getsignal(signal.SIGTERM)
  kept, add = [], Parts.add

  def killed(parts, key, row):
    add(parts, key, row)
    kept.append((key, row))
    if len(kept) == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Parts, "add", killed)
  with pytest.raises(signals.Stopped, match="what was measured is kept"):
    make(runner, "table_3_1")
  assert len(kept) == 1
  assert signal.getsignal(signal.SIGTERM) is handler
  assert records.read(runner.out, "table_3_1", "small") is None
  make(dataclasses.replace(runner), "table_3_1")
  assert records.read(runner.out, "table_3_1", "small") is not None
  # The piece that was kept has not been measured again.
  first, row = kept[0]
  place = (row["repetition"], row["first"])
  later = [(r["repetition"], r["first"]) for key, r in kept[1:] if key == first]
  assert later and place not in later


def test_table_3_2_is_skipped_without_inception(runner):
  (task,) = make(runner, "table_3_2")
  assert task.state == "skipped" and "--inception=FILE" in task.reason
  assert not runner.out.exists()


def test_an_epoch_that_was_not_kept_is_refused(runner, book):
  trained = runs.train(book.runs["mnist"], runner.bench)
  assert runs.at_epoch(trained, 0) is trained.model
  assert runs.at_epoch(trained, 1).about["statistics"] == "population"
  with pytest.raises(UserError, match="epoch 7 of mnist was not kept; kept are 1, 2"):
    runs.at_epoch(trained, 7)


@pytest.fixture
def tiny(monkeypatch, book):
  monkeypatch.setattr(targets, "BOOK", book)


def test_the_command_makes_results_and_their_page(tiny, tmp_path):
  arguments = (
    f"--workdir={tmp_path / 'work'}",
    f"--out={tmp_path / 'out'}",
    f"--data={tmp_path}",
    "--noprogress",
  )
  result = launch("reproduce", "--target=figure_3_1", *arguments)
  assert result.returncode == 0, result.stderr
  assert "[1/1] figure_3_1: model sampling chains" in result.stdout
  stored = json.loads((tmp_path / "out/figure_3_1/small/result.json").read_text())
  assert stored["provenance"]["command"] == (
    "python -m experiments.reproduce --target=figure_3_1 --scale=small"
    " --workdir=runs/reproduce --data=$INFUSION_JAX_DATA"
  )
  page = (tmp_path / "out/README.md").read_text()
  assert "(figure_3_1/small/figure_3_1.png)" in page
  again = launch("reproduce", "--target=figure_3_1", *arguments)
  assert "figure_3_1: finished" in again.stdout
  (tmp_path / "out/README.md").unlink()
  index = launch("reproduce", "--index_only", f"--out={tmp_path / 'out'}")
  assert index.returncode == 0 and (tmp_path / "out/README.md").read_text() == page


def test_a_stopped_command_says_how_to_go_on(tiny, tmp_path, monkeypatch):
  def stopped(*arguments, **options):
    raise signals.Stopped("stopped at step 3, which is saved")

  monkeypatch.setattr(runs.loop, "fit", stopped)
  result = launch(
    "reproduce", "--target=figure_3_1", f"--workdir={tmp_path / 'work'}", "--noprogress"
  )
  assert result.returncode == 75
  assert "step 3, which is saved; the same command resumes" in result.stderr


def test_the_targets_are_listed():
  result = launch("reproduce", "--list")
  assert result.returncode == 0
  for name in targets.BOOK.targets:
    assert f"| {name} " in result.stdout
