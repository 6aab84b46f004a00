"""The state before the first step."""

import jax
import pytest
import runs

from infusion_jax.training.state import initial_state, make_recipe


@pytest.mark.parametrize("given", [False, True])
def test_no_two_leaves_share_a_buffer(given):
  config = runs.config(ema_decay=0.9)
  recipe = make_recipe(config, runs.dataset())
  key = jax.random.key(0)
  parameters = recipe.network.init(key)[0] if given else None
  state = initial_state(recipe, key, parameters)
  leaves = [*jax.tree.leaves(state), *jax.tree.leaves(parameters)]
  pointers = {leaf.unsafe_buffer_pointer() for leaf in leaves}
  assert len(pointers) == len(leaves)
