"""Likelihoods are computed in full float32 on every device, unless a flag says so."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
import runs

from infusion_jax import evaluation
from infusion_jax.errors import UserError
from infusion_jax.evaluation import Protocol, Session
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import importance
from infusion_jax.model import load
from infusion_jax.states.bernoulli import Bernoulli
from infusion_jax.states.self_conditioned import SelfConditioned
from infusion_jax.sweep import vmapped
from infusion_jax.training import loop

pytestmark = pytest.mark.usefixtures("quick_compile")

HIGHEST = (jax.lax.Precision.HIGHEST,) * 2
SMALL = Protocol(num_images=4, num_chains=2, temperatures=3, ais_images=2, ais_chains=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("precise") / "run"
  loop.fit(runs.config(num_epochs=1), runs.dataset(), folder, progress=False)
  return load(folder)


def products(jaxpr):
  """The precisions of all matrix products and convolutions, inner programs' too."""
  found = []
  for equation in jaxpr.eqns:
    if equation.primitive.name in ("dot_general", "conv_general_dilated"):
      found.append(equation.params["precision"])
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
    ):
      inner = getattr(inner, "jaxpr", inner)
      if hasattr(inner, "eqns"):
        found += products(inner)
  return found


def session(model, folder, **protocol):
  protocol = dataclasses.replace(SMALL, **protocol)
  return Session(model, runs.dataset(), protocol, folder, progress=False)


@pytest.mark.parametrize(
  ("protocol", "expected"),
  [({}, HIGHEST), ({"precision": "high"}, (jax.lax.Precision.HIGH,) * 2)],
)
def test_the_setting_reaches_every_product(
  model, tmp_path, monkeypatch, protocol, expected
):
  def traced(one):
    x = jnp.zeros((2, 4, 4, 1))
    keys = jax.random.split(one.key("chains"), 2)
    jaxpr = jax.make_jaxpr(
      lambda x: jax.grad(
        lambda x: importance.estimate(keys, one.markov, x, num_chains=2).bound.sum()
      )(x)
    )(x)
    found = products(jaxpr.jaxpr)
    assert len(found) > 3 and set(found) == {expected}
    return []

  monkeypatch.setitem(evaluation.METRICS, "bound", traced)
  session(model, tmp_path, **protocol).measure("bound")


def test_on_a_cpu_nothing_changes_and_the_protocol_says_what_was_asked(model, tmp_path):
  for metric in ("bound", "ais"):
    rows = []
    for precision in ("highest", "default"):
      (row,) = session(model, tmp_path, precision=precision).measure(metric)
      assert row["protocol"]["precision"] == precision
      rows.append(row)
    assert rows[0]["value"] == rows[1]["value"]
    assert rows[0]["details"] == rows[1]["details"]


def test_other_names_are_refused():
  with pytest.raises(UserError, match="precision is 'half'; allowed are highest, high"):
    Protocol(precision="half")


def test_the_model_and_sweeps_do_the_same(model, monkeypatch):
  seen = []
  evaluate = importance.evaluate

  def spied(*args, **options):
    seen.append(jax.config.jax_default_matmul_precision)
    return evaluate(*args, **options)

  monkeypatch.setattr(importance, "evaluate", spied)
  model.log_likelihood(jax.random.key(0), runs.dataset().test[:2], num_chains=1)
  assert seen == ["highest"]
  assert jax.config.jax_default_matmul_precision is None
  one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], model.weights)
  jaxpr = jax.make_jaxpr(
    lambda weights: vmapped.bounds(
      jax.random.split(jax.random.key(0), 2),
      weights,
      jnp.zeros((2, 4, 4, 1)),
      network=model.network,
      mesh=None,
      together=0,
      num_chains=2,
      chunk_size=2,
    )
  )(one)
  found = products(jaxpr.jaxpr)
  assert found and set(found) == {HIGHEST}


def test_fitted_variances_are_another_question_and_say_so(model, tmp_path):
  (plain,) = session(model, tmp_path).measure("bound")
  (fitted,) = session(model, tmp_path, calibrate=20).measure("bound")
  assert "calibrate" not in plain["asked"]
  assert "variances_fitted_to_images" not in plain["protocol"]
  assert fitted["protocol"]["variances_fitted_to_images"] == 20
  assert "20 images for the variances" in evaluation.in_words(fitted)
  assert fitted["value"] != plain["value"]


def test_another_floor_of_the_variance_is_another_question_and_says_so(model, tmp_path):
  trained = model.config.chain.variance_floor
  (plain,) = session(model, tmp_path).measure("bound")
  (lower,) = session(model, tmp_path, output_floor=trained / 5).measure("bound")
  (same,) = session(model, tmp_path, output_floor=trained).measure("bound")
  assert "output_floor" not in plain["asked"]
  assert lower["protocol"]["output_floor"] == trained / 5
  assert "floor of the variance 2e-05" in evaluation.in_words(lower)
  assert lower["value"] != plain["value"]
  assert same["value"] == pytest.approx(plain["value"], rel=1e-6)


def test_self_conditioned_states_are_gaussian_and_bits_are_not(model, tmp_path):
  def refused(distribution):
    network = dataclasses.replace(model.network, distribution=distribution)
    other = session(dataclasses.replace(model, network=network), tmp_path)
    try:
      other.check_gaussian("ais")
    except UserError:
      return True
    return False

  assert not refused(Gaussian) and not refused(SelfConditioned)
  assert refused(Bernoulli)
