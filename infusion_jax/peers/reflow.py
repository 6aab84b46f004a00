"""Reflow: a second flow, trained on the noise and pictures of a first one.

Liu et al. (2023), "Flow straight and fast: learning to generate and transfer data with
rectified flow", section 2.2.
"""

import dataclasses
from typing import Any

import jax

from infusion_jax import random
from infusion_jax.gaussian import Gaussian
from infusion_jax.peers.flow_matching import FlowMatching

Array = jax.Array
PyTree = Any

#: Network calls of the first flow for a training picture.
_TEACHER_CALLS = 20


@dataclasses.dataclass(frozen=True)
class Reflow(FlowMatching):
  """Starts from a trained flow, whose pictures it learns to draw in straighter lines.

  Parameters are those that are learned, "student", and those of the first flow,
  "teacher", which get no gradient and stay. Images of the data set are not looked at.
  """

  title = "flow matching, one reflow"
  #: Its own, and the first flow's: a call forward is a third of a pass.
  passes = 1 + round(_TEACHER_CALLS / 3)

  def init(self, key: Array) -> PyTree:
    """Two flows, the same."""
    return self.start(super().init(key))

  @property
  def origin(self) -> FlowMatching:
    """The first flow."""
    return FlowMatching(self.image_shape, self.hidden_sizes)

  def start(self, parameters: PyTree) -> PyTree:
    """Both flows from the trained one."""
    return {"student": parameters, "teacher": jax.tree.map(lambda p: p + 0, parameters)}

  def loss(self, key: Array, parameters: PyTree, x: Array, prior: Gaussian) -> Array:
    """Flow matching with noise and images paired by the first flow, per pixel."""
    del prior
    noise = random.normal(random.named(key, "noise"), x.shape)
    teacher = jax.lax.stop_gradient(parameters["teacher"])
    y = self.origin.euler(teacher, noise, _TEACHER_CALLS)
    y = jax.lax.stop_gradient(y)
    return self._regression(random.named(key, "time"), parameters, y, noise)

  def velocity(self, parameters: PyTree, z: Array, time: Array) -> Array:
    """The student's; see `FlowMatching.velocity`."""
    return super().velocity(parameters["student"], z, time)
