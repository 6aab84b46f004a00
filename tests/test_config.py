"""Configurations: what is accepted, and how the rest is refused."""

import dataclasses
import json
import re

import ml_collections
import pytest

from infusion_jax.config import (
  AFFECTS,
  ChainConfig,
  Config,
  TrainConfig,
  differences,
  dotted_keys,
  value_of,
)
from infusion_jax.errors import UserError
from infusion_jax.sweep import overrides


def test_round_trip_through_json():
  config = Config(
    chain=ChainConfig(num_steps=2, rates=(0.1, 0.2)), train=TrainConfig(seed=7)
  )
  assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_keys_take_their_defaults():
  assert Config.from_dict({"chain": {"num_steps": 3}}) == Config(
    chain=ChainConfig(num_steps=3)
  )


def test_whole_floats_are_integers_and_integers_are_floats():
  config = Config.from_dict({"train": {"num_epochs": 3.0, "learning_rate": 1}})
  assert config.train.num_epochs == 3
  assert isinstance(config.train.num_epochs, int)
  assert isinstance(config.train.learning_rate, float)


def test_differences_name_the_keys():
  changed = Config(train=TrainConfig(seed=1, batch_size=64))
  assert differences(Config(), changed) == {
    "train.seed": (0, 1),
    "train.batch_size": (128, 64),
  }


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"chian": {}}, "config.chian is not a configuration key .* did you mean chain"),
    ({"train": {"lr": 1}}, "config.train.lr is not a configuration key"),
    ({"train": 3}, "config.train is 3; a section"),
    (
      {"train": {"seed": "one"}},
      "config.train.seed is 'one'; allowed is a whole number",
    ),
    ({"train": {"seed": 1.5}}, "config.train.seed is 1.5; allowed is a whole number"),
    ({"train": {"seed": True}}, "config.train.seed is True; allowed is a whole number"),
    ({"train": {"seed": -1}}, "train.seed is -1; it must lie between 0"),
    ({"train": {"batch_size": 1}}, "train.batch_size is 1; it must lie between 2"),
    ({"train": {"num_epochs": 0}}, "train.num_epochs is 0"),
    ({"train": {"learning_rate": float("nan")}}, "train.learning_rate is nan"),
    ({"train": {"ema_decay": 1.0}}, "train.ema_decay is 1.0"),
    ({"train": {"objective": "gan"}}, "'gan'; allowed are denoising, lower_bound"),
    ({"train": {"decay": "linear"}}, "'linear'; allowed are constant, cosine"),
    ({"chain": {"num_steps": 0}}, "chain.num_steps is 0; it must lie between 1"),
    ({"chain": {"alpha0": 1.5}}, "chain.alpha0 is 1.5; it must lie between 0 and 1"),
    ({"chain": {"rates": [0.1]}}, "chain.rates has 1 values; chain.num_steps = 15"),
    ({"chain": {"rates": 0.1}}, "config.chain.rates is 0.1; allowed is a list"),
    ({"chain": {"variance_floor": 0.0}}, "chain.variance_floor is 0.0"),
    (
      {"chain": {"repeat_first_rate": 1}},
      "repeat_first_rate is 1; allowed is True or False",
    ),
    ({"model": {"hidden_sizes": [0]}}, r"model.hidden_sizes is \(0,\)"),
    ({"model": {"dtype": "int8"}}, "model.dtype is 'int8'; allowed are float32"),
    ({"data": {"name": 3}}, "config.data.name is 3; allowed is a string"),
  ],
)
def test_wrong_values_are_named(values, message):
  with pytest.raises(UserError, match=message):
    Config.from_dict(values)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_ready_made_configurations_are_valid(name):
  module = __import__(f"configs.{name}", fromlist=["get_config"])
  values = module.get_config()
  assert isinstance(values, ml_collections.ConfigDict)
  config = Config.from_dict(values.to_dict())
  # The file opens with its command, its time and its result.
  assert re.search(r"python -m experiments.train --config=configs/", module.__doc__)
  assert "expect" in module.__doc__.lower()
  assert config.train.objective == "denoising"


def test_every_key_says_what_it_decides():
  """Resuming and sweeps read the same: a key that decides nothing is free in both."""
  free = dotted_keys("length", "notes", "place")
  assert "train.monitor_images" in free and "train.num_epochs" in free
  assert "data.path" in free and "chain.omega" not in free
  for section in dataclasses.fields(Config):
    for field in dataclasses.fields(section.type):
      assert field.metadata.get("affects", "numbers") in AFFECTS
  assert len(dotted_keys()) == sum(
    len(dataclasses.fields(section.type)) for section in dataclasses.fields(Config)
  )


@pytest.mark.parametrize("key", dotted_keys("notes", "place"))
def test_what_changes_no_result_changes_no_identity(key):
  old = value_of(Config(), key)
  chosen = {"train.on_nonfinite": "rollback", "data.stream": "never"}
  new = chosen.get(key) or type(old)("7")
  other = overrides.apply(Config(), {key: new})
  assert other != Config()
  assert overrides.identity(other) == overrides.identity(Config())
