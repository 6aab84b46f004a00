"""The descriptions: complete, and such that the library can follow them."""

import pytest

from experiments import reproduce
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Protocol
from infusion_jax.paper import runs
from infusion_jax.paper.descriptions import SCALES, Sweep
from infusion_jax.paper.recipes import LAYOUTS
from infusion_jax.paper.runs import Bench
from infusion_jax.paper.targets import BOOK
from infusion_jax.storage import published_numbers
from infusion_jax.sweep import overrides
from infusion_jax.sweep.ledger import SweepProtocol


def test_every_table_and_figure_of_the_thesis_has_a_target():
  numbers = published_numbers.numbers()
  wanted = {(key,) for key in numbers if key.startswith(("table_", "figure_"))}
  wanted |= {("figures", key) for key in numbers["figures"]}
  assert {
    path for target in BOOK.targets.values() for path in target.published
  } == wanted


def test_targets_name_runs_and_layouts_that_there_are():
  for target in BOOK.targets.values():
    assert target.layout in LAYOUTS
    assert set(target.runs) <= set(BOOK.runs)
  assert {t.layout for t in BOOK.targets.values()} == set(LAYOUTS)


@pytest.fixture
def everything(tmp_path):
  """A data folder in which every file of every source is there, and empty."""
  for run in BOOK.runs.values():
    for source in run.sources:
      for name in (*source.files, *source.needs):
        if "." in name:
          (tmp_path / name).touch()
        else:
          (tmp_path / name).mkdir(exist_ok=True, parents=True)
  return tmp_path


def bench(data, scale):
  return Bench(data / "work", data, scale, reproduce.resolve)


@pytest.mark.parametrize("scale", SCALES)
def test_configurations_are_valid_at_every_scale(everything, scale):
  for run in BOOK.runs.values():
    found = runs.configs(run, bench(everything, scale))
    for config in found:
      assert config.data.path.startswith(str(everything))
    if not isinstance(run, Sweep):
      assert len(found) == 1
      continue
    assert len({overrides.identity(config) for config in found}) == len(found)
    SweepProtocol(**run.protocol[scale])
    for panel in run.panels[scale]:
      for rate in panel.rates:
        assert any(overrides.place(config).rate == rate for config in found), rate


def test_full_scale_is_the_thesis_s_protocol(everything):
  config = runs.configs(BOOK.runs["mnist"], bench(everything, "full"))[0]
  assert (config.chain.num_steps, config.chain.alpha0, config.chain.omega) == (
    15,
    0,
    0.01,
  )
  assert config.model.hidden_sizes == (1200, 1200)
  assert config.data.max_images == 0
  options = BOOK.targets["table_3_1"].options("full")
  for split, images in (("test", 1000), ("train", 100)):
    protocol = Protocol(split=split, **options[split])
    assert (protocol.num_images, protocol.num_chains) == (images, 20_000)
    assert protocol.repetitions == 10
  table = runs.configs(BOOK.runs["table_a1"], bench(everything, "full"))
  bounds = [overrides.published_bound(config) for config in table]
  numbers = published_numbers.numbers("table_a1_mnist_lower_bound_test")
  rows = [
    bound
    for rates in numbers.values()
    if isinstance(rates, dict)
    for bound in rates.values()
  ]
  assert sorted(bound for bound in bounds if bound is not None) == sorted(rows)


def test_lossless_data_are_preferred_and_lossy_ones_are_called_so(tmp_path):
  cifar = BOOK.runs["cifar10"]
  for name in ("cifar10_jpeg_train.zip", "cifar10_jpeg_test.zip"):
    (tmp_path / name).touch()
  assert "LOSSY" in bench(tmp_path, "small").source(cifar).note
  (tmp_path / "tensorflow_datasets/cifar10").mkdir(parents=True)
  assert bench(tmp_path, "small").source(cifar).note == ""
  faces = BOOK.runs["faces"]
  (tmp_path / "fer2013_48.zip").touch()
  assert "Toronto Face Database" in bench(tmp_path, "small").source(faces).note


def test_missing_data_are_named(tmp_path):
  named = r"or celeba64_subset\.zip in the folder .* --data or INFUSION_JAX_DATA name"
  with pytest.raises(UserError, match=named):
    runs.configs(BOOK.runs["celeba"], bench(tmp_path, "small"))


def test_chosen_targets_come_in_the_order_of_the_book():
  names = [target.name for target in BOOK.chosen("table_a1, figure_3_1,table_a1")]
  assert names == ["figure_3_1", "table_a1"]
  assert len(BOOK.chosen("all")) == len(BOOK.targets) == 13


@pytest.mark.parametrize("names", ["figure_9", "figure_3_1,table_9", "", " , "])
def test_unknown_targets_are_refused(names):
  with pytest.raises(UserError, match="target is .*; allowed are all, table_3_1"):
    BOOK.chosen(names)
