"""Runs that learn their infusion rates: trained, resumed, stored, begun from others."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import runs

import infusion_jax
from infusion_jax import UserError
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.states.infusion import RATES, Interpolation
from infusion_jax.storage import weights as stored
from infusion_jax.training import loop
from infusion_jax.training.state import make_recipe

DATA = runs.dataset()


def config(learn_rates="pixel", infusion="interpolation", **train):
  train = {"objective": "hybrid", "learning_rate": 0.02, **train}
  made = runs.config(learn_rates=learn_rates, **train)
  return dataclasses.replace(
    made, chain=dataclasses.replace(made.chain, infusion=infusion)
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("rates") / "run"
  loop.fit(config(), DATA, folder, progress=False)
  return folder


def test_what_was_learned_is_the_proposal_of_estimates(workdir, tmp_path, key):
  model = infusion_jax.load(workdir)
  infusion = model.weights.infusion
  assert isinstance(infusion.proposal, Interpolation)
  moved = model.weights.parameters.per_step[RATES]
  assert infusion.rates.shape == moved.shape == (3, 4, 4, 1)
  start = infusion._replace(rates=jnp.array([0.0, 0.1, 0.2]))
  expected = start.learned({RATES: moved}).rates
  np.testing.assert_allclose(infusion.rates, expected, rtol=1e-5)
  assert np.ptp(np.asarray(infusion.rates[2])) > 1e-3
  session = Session(model, DATA, Protocol(num_images=4, num_chains=2), tmp_path, False)
  (row,) = session.measure("bound")
  means = np.asarray(infusion.rates).mean((1, 2, 3))
  np.testing.assert_allclose(row["protocol"]["proposal_rates"], means, atol=1e-6)


def test_it_resumes_bit_for_bit(workdir, tmp_path):
  for epochs in (1, 3):
    loop.fit(config(num_epochs=epochs), DATA, tmp_path, progress=False)
  assert runs.rows(tmp_path) == runs.rows(workdir)


def test_rates_start_anew_where_they_are_of_another_kind(workdir):
  for kind, shapes in (("pixel", (3, 4, 4, 1)), ("step", (3,)), ("none", None)):
    network = make_recipe(config(kind), DATA).network
    per_step = stored.of_run(str(workdir), network).parameters.per_step
    found = per_step.get(RATES)
    assert jnp.shape(found) == shapes if shapes else found is None
    assert kind != "step" or not found.any()
    assert kind != "pixel" or found.all()


def test_a_group_of_runs_has_the_structure_of_its_proposal():
  shapes = runs.group_shapes(config("step"), DATA)
  assert shapes.per_step[RATES].shape == (2, 3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"infusion": "mixture", "objective": "importance_weighted"},
      "no gradient of 'importance_weighted' knows its choice of pixels",
    ),
    ({"objective": "denoising"}, "'denoising'; a gradient of the rates comes from"),
    ({"method": "vae"}, "chain.infusion are for 'infusion' alone"),
  ],
)
def test_rates_that_no_gradient_reaches_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    loop.check_fits(config(**changes), DATA)
