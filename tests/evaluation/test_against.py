"""Two models compared image by image, and what is said beside a number."""

import json

import numpy as np
import pytest
from launching import launch

from infusion_jax import evaluation
from infusion_jax.likelihood import Gap


def row(values, name="bound", **details):
  values = np.asarray(values, float)
  found = evaluation.Measurement.of(name, values, {}, details)
  return {"name": name, "value": found.value, "details": found.details}


def test_what_the_images_share_cancels():
  """Images differ by hundreds, models by one: only pairs tell them apart."""
  rng = np.random.default_rng(0)
  images = rng.normal(0, 300, 100)
  noise = rng.normal(0, 0.5, 100)
  found = evaluation.paired(row(images + 1 + noise), row(images))
  np.testing.assert_allclose(found.mean, 1 + noise.mean(), atol=1e-4)
  np.testing.assert_allclose(found.standard_error, noise.std(ddof=1) / 10, atol=1e-4)
  assert Gap(found.mean, found.standard_error).verdict == "above"
  unpaired = Gap.between(1, 30.0, 0, 30.0)
  assert unpaired.verdict == "within the error"


def test_repetitions_are_averaged_before_they_are_compared():
  found = evaluation.paired(row([[1, 2], [3, 6]]), row([[1, 1], [1, 1]]))
  assert found.mean == 2.0
  np.testing.assert_allclose(found.standard_error, 1.0)


def test_numbers_without_values_of_images_are_not_paired():
  assert evaluation.paired(row([1.0, 2.0]), {"details": {}}) is None
  assert evaluation.paired(row([1.0, 2.0]), row([1.0])) is None


@pytest.mark.parametrize(
  ("gap", "text", "verdict"),
  [
    (Gap(2.0, 1.0), "+2.00 ± 1.00", "within the error"),
    (Gap(2.01, 1.0), "+2.01 ± 1.00", "above"),
    (Gap(-2.01, 1.0), "-2.01 ± 1.00", "below"),
    (Gap(-0.05, None), "-0.05", "below"),
    (Gap(0.0, None), "+0", "within the error"),
    (Gap.between(5.0, 3.0, 1.0, 4.0), "+4.00 ± 5.00", "within the error"),
    (Gap.between(5.0, None, 1.0, 1.5), "+4.00 ± 1.50", "above"),
  ],
)
def test_gaps(gap, text, verdict):
  assert (str(gap), gap.verdict) == (text, verdict)


def test_few_effective_chains_are_told_with_what_does_better():
  told = evaluation.caution(row([1.0], "importance", median_ess=1.04))
  assert "effective sample size is 1.0" in told
  assert "does not contain the bias" in told
  assert "--tune_proposal or --metrics=ais" in told
  tuned = evaluation.caution(row([1.0], "test/importance_tuned", median_ess=1.9))
  assert "--tune_proposal" not in tuned and "--metrics=ais" in tuned
  assert evaluation.caution(row([1.0], "importance", median_ess=2.0)) == ""
  assert evaluation.caution(row([1.0])) == ""


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("against")
  settings = [
    "chain.num_steps=2",
    "model.hidden_sizes=(8,)",
    "train.batch_size=20",
    "train.preview_every=0",
  ]
  changes = {
    "one": ["data.max_images=60", "train.num_epochs=1"],
    "two": ["data.max_images=60", "train.num_epochs=4"],
    "other": ["data.max_images=50", "train.num_epochs=1"],
  }
  for name, own in changes.items():
    overrides = [f"--config.{setting}" for setting in settings + own]
    flags = ["--config=configs/digits.py", f"--workdir={folder / name}"]
    result = launch("train", *flags, *overrides, "--noprogress")
    assert result.returncode == 0, result.stderr
  return folder


def test_the_command_prints_differences_and_keeps_both(workdirs):
  flags = ["--metrics=bound,ais,importance", "--temperatures=20", "--noprogress"]
  flags += ["--num_chains=2", "--sandwich"]
  one, two = workdirs / "one", workdirs / "two"
  result = launch("evaluate", f"--workdir={one}", f"--against={two}", *flags)
  assert result.returncode == 0, result.stderr
  text = result.stdout
  assert f"{one} against {two}, image by image" in text
  assert "ais compares the models on 12 images only" in text
  assert "--ais_images=64" in text
  assert text.count("importance: the median effective sample size is") == 2
  stored = [
    json.loads((folder / "evaluation.json").read_text())["metrics"]
    for folder in (one, two)
  ]
  table = text.partition("image by image\n")[2]
  lines = {
    line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
    for line in table.splitlines()
    if line.startswith("|")
  }
  # Simulated images are no pairs: no ais_gap.
  compared = {name for name in lines if name[0] != "-"} - {"metric"}
  assert compared == {"bound", "ais", "importance"}
  for name in ("bound", "ais", "importance"):
    first, second = (np.array(m[name]["details"]["per_image"]) for m in stored)
    difference = first - second
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert lines[name][2] == f"{difference.mean():+.2f} ± {error:.2f}"
    np.testing.assert_allclose(first.mean(), stored[0][name]["value"], atol=1e-3)
  # Four epochs against one: a difference that no error hides.
  assert lines["bound"][3] == "below"
  again = launch("evaluate", f"--workdir={one}", f"--against={two}", *flags)
  assert again.stdout == text


def test_models_of_other_data_are_refused(workdirs):
  one, other = f"--workdir={workdirs / 'one'}", f"--against={workdirs / 'other'}"
  result = launch("evaluate", one, other, "--noprogress")
  assert result.returncode == 2
  assert "allowed are runs on the same data" in result.stderr
  result = launch("evaluate", one, f"--against={workdirs / 'one'}", "--noprogress")
  assert result.returncode == 2
  assert "which is --workdir; allowed is another run" in result.stderr
