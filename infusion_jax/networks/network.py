"""A transition operator over time: one module, T steps of its own parameters."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from infusion_jax.chain import Parameters, Step
from infusion_jax.gaussian import Distribution, Gaussian
from infusion_jax.networks.norm import STATISTICS, STEP
from infusion_jax.states.infusion import MIXTURE, RATES, Proposal
from infusion_jax.states.multimodal import repeated

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Network:
  """A Flax module for one step, and what repeats it over T of them.

  `train`, `fixed` and `guided` are operators of the chain, equal for equal networks.
  `Partial(network.fixed, shared)` is a transition and a pytree that carries the
  weights: a jitted function can take it as an argument and is compiled once for all
  weights. A condition goes the same way, `Partial(network.fixed, shared, label=label)`:
  a scalar, or one for each image, of which the states may hold several chains in a row.
  Conditions are a label, and what is seen of an image: `restoration.conditions`.

  Attributes:
    module: called as `module(z, time, train)`, with classes as
      `module(z, time, train, label)`, and with `seen=...` if it is shown something;
      hashable.
    image_shape: (H, W, C).
    num_steps: T.
    num_classes: K; labels are 0 ... K - 1, and K is that of no label. 0: there are
      no labels.
    distribution: the type of what the module returns, `Gaussian` or `Bernoulli`; or
      `SelfConditioned`, which it returns as a `Gaussian`.
    proposal: q of the infusion chains it is trained with.
    learn_rates: whether what moves the infusion rates (`Infusion.learned`) is among
      the steps' own parameters: "none", "step" (one each) or "pixel".
    shown: whether the module sees something of each image: the known pixels and, as
      one more channel, where they are known, [B, H, W, C + 1]; zeros: nothing.
    latents: modes of a transition; above 1 the distribution is `Multimodal`.
  """

  module: nn.Module
  image_shape: tuple[int, int, int]
  num_steps: int
  num_classes: int = 0
  distribution: type[NamedTuple] = Gaussian
  proposal: Proposal = MIXTURE
  learn_rates: str = "none"
  shown: bool = False
  latents: int = 1

  def of_states(self, value: Any) -> Distribution:
    """The distribution of states with a value in the place of every pixel's."""
    if self.latents > 1:
      return repeated(Gaussian(value, value), self.latents)
    return self.distribution(*[value] * len(self.distribution._fields))

  def init(self, key: Array) -> tuple[Parameters, PyTree]:
    """Initial parameters, and statistics (mean 0, variance 1) [T, ...]."""

    # Compiled, it draws the parameters and leaves out the forward pass.
    @jax.jit
    def draw(key: Array) -> PyTree:
      z = jnp.zeros((1, *self.image_shape))
      z = self.of_states(z).seen(z)
      label, seen = self._told(None, None, 1)
      return self.module.init(key, z, jnp.zeros(()), False, *label, **seen)

    variables = draw(key)
    per_step = self._repeat(variables.get(STEP, {})) | self.moved_rates()
    return (
      Parameters(variables.get("params", {}), per_step),
      self._repeat(variables.get(STATISTICS, {})),
    )

  def moved_rates(self) -> dict[str, Array]:
    """The steps' entry `RATES`, 0: training begins with the rates it is given."""
    if self.learn_rates == "none":
      return {}
    pixels = (*self.image_shape[:2], 1) if self.learn_rates == "pixel" else ()
    return {RATES: jnp.zeros((self.num_steps, *pixels))}

  def spread(self) -> "Network":
    """The same for batches that several devices share; equal up to rounding."""
    if not hasattr(self.module, "spread"):
      return self
    return dataclasses.replace(self, module=self.module.clone(spread=True))

  @property
  def train(self) -> "Training":
    """The operator with the statistics of the mini-batch, which it reports."""
    return Training(self)

  @property
  def fixed(self) -> "Fixed":
    """The operator with given statistics: images do not see each other."""
    return Fixed(self)

  @property
  def guided(self) -> "Guided":
    """`fixed` with and without a label, combined; for networks with classes."""
    return Guided(self)

  def apply(
    self,
    variables: PyTree,
    step: Step,
    z: Array,
    label: Array | None,
    seen: Array | None,
    *,
    train: bool = False,
    **options: Any,
  ) -> Any:
    """The module at one step; `options` are those of Flax's `apply`."""
    label, seen = self._told(label, seen, len(z))
    arguments = z, self.time(step.index), train, *label
    return self.module.apply(variables, *arguments, **seen, **options)

  def _told(
    self, label: Array | None, seen: Array | None, rows: int
  ) -> tuple[tuple[Array, ...], dict[str, Array]]:
    """The conditions as further arguments of a module that takes them."""
    arguments, named = (), {}
    if self.num_classes:
      arguments = (_each(self.num_classes if label is None else label, rows),)
    if self.shown:
      height, width, channels = self.image_shape
      nothing = jnp.zeros((1, height, width, channels + 1))
      named = {"seen": _each(nothing if seen is None else seen, rows)}
    return arguments, named

  def steps(self, per_step: PyTree, statistics: PyTree = None) -> Step:
    """What a chain of T steps scans over, leaves [T, ...]."""
    return Step(per_step, jnp.arange(self.num_steps), statistics)

  def time(self, index: Array) -> Array:
    """The step as a number in (0, 1]: t / T."""
    return (index + 1) / self.num_steps

  def _repeat(self, tree: PyTree) -> PyTree:
    return jax.tree.map(
      lambda leaf: jnp.repeat(leaf[None], self.num_steps, axis=0), tree
    )


def _each(value: Array | int, rows: int) -> Array:
  """One for each of `rows` rows: of N images the chains of one stand in a row."""
  value = jnp.asarray(value)
  if value.ndim == 0 or len(value) == rows:
    return value
  return jnp.repeat(value, rows // len(value), axis=0)


# Bound methods of equal networks differ, so jit would compile them anew.


@dataclasses.dataclass(frozen=True)
class Training:
  """One step with the statistics of the mini-batch [B, H, W, C], which it reports."""

  network: Network

  def __call__(
    self,
    shared: PyTree,
    step: Step,
    z: Array,
    label: Array | None = None,
    seen: Array | None = None,
  ) -> tuple[Distribution, PyTree]:
    """See `chain.Operator`; labels are one an image or a scalar."""
    variables = {"params": shared, STEP: step.per_step}
    p, report = self.network.apply(
      variables, step, z, label, seen, train=True, mutable=[STATISTICS]
    )
    return self.network.distribution(*p), report.get(STATISTICS, {})


@dataclasses.dataclass(frozen=True)
class Fixed:
  """One step with given statistics: images do not see each other."""

  network: Network

  def __call__(
    self,
    shared: PyTree,
    step: Step,
    z: Array,
    label: Array | None = None,
    seen: Array | None = None,
  ) -> tuple[Distribution, None]:
    """See `chain.Operator`; labels are one an image or a scalar."""
    variables = {"params": shared, STEP: step.per_step, STATISTICS: step.statistics}
    p = self.network.apply(variables, step, z, label, seen)
    return self.network.distribution(*p), None


@dataclasses.dataclass(frozen=True)
class Guided:
  """`Fixed` twice, without and with the label: `Distribution.toward`."""

  network: Network

  def __call__(
    self,
    shared: PyTree,
    step: Step,
    z: Array,
    label: Array | None = None,
    guidance: Array | float = 1.0,
    seen: Array | None = None,
  ) -> tuple[Distribution, None]:
    """See `chain.Operator`; guidance is a scalar."""
    fixed = self.network.fixed
    free, given = (fixed(shared, step, z, told, seen)[0] for told in (None, label))
    return free.toward(given, jnp.asarray(guidance)), None
