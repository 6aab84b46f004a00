import jax
import numpy as np
import pytest
import toys

from infusion_jax import UserError
from infusion_jax.likelihood import importance, proposal


@pytest.fixture(scope="module")
def toy():
  return toys.linear_gaussian(num_steps=3)


def tune(toy, candidates, num_images=20, **options):
  return proposal.tune_proposal(
    jax.random.key(0),
    toy.markov(),
    np.asarray(toy.draw(jax.random.key(1), num_images)),
    candidates,
    **options,
  )


def test_the_grid_leaves_out_what_is_no_schedule():
  found = proposal.proposal_grid(3, [0.0, 0.5], [0.1, 0.4])
  np.testing.assert_allclose(found, [[0, 0.1, 0.2], [0, 0.4, 0.8], [0.5, 0.6, 0.7]])


def test_a_grid_of_nothing_is_refused():
  with pytest.raises(UserError, match=r"omega in \(0.5,\)"):
    proposal.proposal_grid(4, [0.0], [0.5])


def test_the_table_is_that_of_the_estimates(toy):
  candidates = proposal.proposal_grid(3, [0.0], [0.0, 0.1, 0.3])
  table = tune(toy, candidates, num_chains=8)
  images = np.asarray(toy.draw(jax.random.key(1), 20))
  for row, rates in enumerate(candidates):
    found = importance.evaluate(
      jax.random.key(0),
      toy.markov(rates),
      images,
      num_chains=8,
    )
    assert table.importance[row] == pytest.approx(found.importance.mean())
    assert table.bound[row] == pytest.approx(found.bound.mean())
    assert table.ess[row] == pytest.approx(np.median(found.ess))
    error = found.importance.std(ddof=1) / np.sqrt(20)
    assert table.standard_error[row] == pytest.approx(error)


def test_the_best_is_the_largest_estimate(toy):
  # Rate 1 proposes a state that the model cannot have come from.
  table = tune(toy, [np.full(3, 1.0), np.full(3, 0.1), np.full(3, 0.9)], num_chains=16)
  assert table.best == 1 == table.importance.argmax()
  np.testing.assert_allclose(table.best_rates, 0.1)


def test_one_program_serves_all_candidates(toy):
  tune(toy, [np.full(3, 0.1)], num_chains=4)
  before = importance._estimate._cache_size()
  seen = []
  tune(
    toy,
    [np.full(3, 0.2), np.full(3, 0.3)],
    num_chains=4,
    progress=lambda *counts: seen.append(counts),
  )
  assert importance._estimate._cache_size() == before
  assert seen == [(1, 2), (2, 2)]


def test_one_image_has_no_standard_error(toy):
  assert np.isnan(tune(toy, [np.full(3, 0.1)], num_images=1).standard_error)


def test_a_candidate_must_be_a_schedule(toy):
  with pytest.raises(UserError, match=r"proposal candidate gives .* rate 1\.5"):
    tune(toy, [np.array([0.1, 1.5, 0.2])])
