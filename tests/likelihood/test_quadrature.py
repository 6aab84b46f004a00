"""Densities by numerical integration against closed forms and a plain sum."""

import jax.numpy as jnp
import numpy as np
import pytest
import toys

from infusion_jax import UserError
from infusion_jax.chain import Infusion, MarkovChain
from infusion_jax.gaussian import Gaussian
from infusion_jax.likelihood import quadrature
from infusion_jax.likelihood.quadrature import Lattice

WIDE = Lattice(-7.0, 7.0, 80)


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 1, 2)])
def test_a_linear_chain_has_its_closed_form(num_steps, shape, key):
  toy = toys.linear_gaussian(num_steps, shape)
  x = np.asarray(toy.draw(key, 6))
  found = quadrature.exact(toy.markov(), x, WIDE)
  np.testing.assert_allclose(found, toy.log_likelihood(x), atol=2e-4)


def test_each_image_is_integrated_given_its_own_label(key):
  toy = toys.linear_gaussian(2, (1, 2, 1))
  x, labels = np.asarray(toy.draw(key, 4)), np.array([1, 0, 1, 0])
  markov = toy.markov(transition=toy.labelled_transition)
  found = quadrature.exact(markov, x, WIDE, labels)
  each = [toy.given(label).log_likelihood(x) for label in (0, 1)]
  np.testing.assert_allclose(found, np.where(labels, each[1], each[0]), atol=2e-4)


def bent(step, z):
  """Means that are no linear function of the state, and mix the two numbers."""
  swapped = z[:, :, ::-1]
  return Gaussian(jnp.tanh(2 * z * swapped) + step * z, 0.3 + 0.2 * swapped**2), None


def test_a_bent_chain_agrees_with_the_sum_over_all_paths():
  prior = Gaussian(jnp.full((1, 2, 1), 0.2), jnp.full((1, 2, 1), 0.5))
  markov = MarkovChain(bent, jnp.array([0.3, 0.6]), Infusion(prior, jnp.zeros(2), 1e-4))
  x = np.array([[0.1, -0.4], [1.0, 0.7]], np.float32).reshape(2, 1, 2, 1)
  lattice = Lattice(-5.0, 5.0, 40)
  nodes = np.asarray(lattice.nodes((1, 2, 1)))
  start = np.exp(toys.log_normal(nodes, *prior).sum((1, 2, 3))) * lattice.spacing**2
  first, second = (bent(step, jnp.asarray(nodes))[0] for step in (0.3, 0.6))
  between = np.exp(
    toys.log_normal(nodes[None], *(p[:, None] for p in first)).sum((2, 3, 4))
  )
  middle = start @ between
  last = np.exp(toys.log_normal(x[None], *(p[:, None] for p in second)).sum((2, 3, 4)))
  expected = np.log((middle * lattice.spacing**2) @ last)
  np.testing.assert_allclose(quadrature.exact(markov, x, lattice), expected, atol=1e-4)


def test_the_density_is_that_of_its_points_and_integrates_to_one():
  toy = toys.linear_gaussian(2, (1, 2, 1))
  markov = toy.markov()
  masses = quadrature.follow(markov, WIDE)
  axis = jnp.linspace(-3.0, 3.0, 61)
  found = quadrature.density(masses, axis)
  np.testing.assert_allclose(found.sum() * 0.1**2, 1.0, atol=1e-3)
  x = jnp.stack([axis[7], axis[40]]).reshape(1, 1, 2, 1)
  at = quadrature.log_likelihood(masses, x)
  np.testing.assert_allclose(jnp.log(found[7, 40]), at[0], rtol=1e-4)


def test_mass_outside_of_the_lattice_is_noticed(key):
  toy = toys.linear_gaussian(2, (1, 2, 1))
  with pytest.raises(UserError, match="must hold 1 within"):
    quadrature.exact(toy.markov(), np.asarray(toy.draw(key, 2)), Lattice(0.0, 0.5, 40))


def test_other_images_are_refused():
  with pytest.raises(UserError, match=r"\(2, 2, 1\).*two numbers"):
    quadrature.exact(toys.linear_gaussian(1).markov(), np.zeros((1, 2, 2, 1)))


def test_nodes_are_images():
  nodes = Lattice(0.0, 1.0, 2).nodes((1, 2, 1))
  np.testing.assert_allclose(
    nodes.reshape(-1, 2), [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
  )
  assert nodes.shape == (4, 1, 2, 1)
