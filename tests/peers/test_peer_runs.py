"""Peers in the loop that trains infusion: checkpoints, resuming, loading, refusals."""

import dataclasses

import jax
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import evaluation
from infusion_jax.errors import UserError
from infusion_jax.peers import METHODS, ORIGINS, PLAIN, network_of
from infusion_jax.training import loop


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp("runs") / "flow"
  config = runs.config(method="flow_matching", num_epochs=2, ema_decay=0.9)
  loop.fit(config, runs.dataset(), folder, progress=False)
  return folder


def test_a_run_is_loaded_and_sampled(trained):
  model = infusion_jax.load(trained)
  images = model.sample(jax.random.key(0), 5, num_steps=4)
  assert images.shape == (5, 4, 4, 1)
  part = model.sample(jax.random.key(0), 2, num_steps=4)
  np.testing.assert_array_equal(part, images[:2])
  assert "flow matching" in repr(model)
  assert list((trained / "samples").glob("*.png"))


def test_a_chain_is_refused_with_one_sentence(trained, tmp_path):
  model = infusion_jax.load(trained)
  with pytest.raises(UserError, match=r"method = 'flow_matching', which has no chain"):
    model.chain(jax.random.key(0), 1)
  with pytest.raises(UserError, match="has no chain"):
    evaluation.Session(model, runs.dataset(), evaluation.Protocol(), tmp_path)


def test_a_longer_run_ends_as_one_without_a_break(trained, tmp_path):
  config = runs.config(method="flow_matching", num_epochs=3, ema_decay=0.9)
  loop.fit(config, runs.dataset(), trained, progress=False)
  loop.fit(config, runs.dataset(), tmp_path / "whole", progress=False)
  assert runs.rows(trained) == runs.rows(tmp_path / "whole")


def test_reflow_starts_from_the_flow_and_needs_it(trained, tmp_path):
  config = runs.config(method="reflow", num_epochs=1)
  with pytest.raises(UserError, match=r"train\.init_from is empty"):
    loop.fit(config, runs.dataset(), tmp_path / "none", progress=False)
  train = dataclasses.replace(config.train, init_from=str(trained))
  config = dataclasses.replace(config, train=train)
  loop.fit(config, runs.dataset(), tmp_path / "reflow", progress=False)
  first = infusion_jax.load(trained).weights.parameters.shared
  second = infusion_jax.load(tmp_path / "reflow").weights.parameters.shared
  jax.tree.map(np.testing.assert_array_equal, second["teacher"], first)


def test_what_comes_before_is_what_a_peer_starts_from():
  for name in PLAIN:
    origin = METHODS[name]((2, 2, 1), (4,)).origin
    assert (METHODS[ORIGINS[name]] if name in ORIGINS else type(None)) is type(origin)


def test_a_method_that_is_not_there_is_named():
  with pytest.raises(UserError, match=r"'vea'; allowed are infusion, "):
    network_of(runs.config(method="vea"), (4, 4, 1))


def test_a_method_whose_library_is_missing_says_what_brings_it(monkeypatch):
  monkeypatch.setattr(METHODS["normalizing_flow"], "needs", "no_such_library")
  with pytest.raises(UserError, match=r"needs no_such_library.*infusion_jax\[peers\]"):
    network_of(runs.config(method="normalizing_flow"), (4, 4, 1))
