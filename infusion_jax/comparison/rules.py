"""What is compared, and how it is measured."""

import dataclasses

from infusion_jax import peers
from infusion_jax.errors import UserError
from infusion_jax.metrics import parzen

_MOST = 2**32 - 1
_LEAST = {
  "num_samples": 20,
  "curve_samples": 20,
  "sigma": 0,
  "likelihood_images": 0,
  "ais_images": 2,
  "temperatures": 2,
  "classifier_epochs": 1,
  "seed": 0,
}


@dataclasses.dataclass(frozen=True)
class Rules:
  """What is compared, and how it is measured.

  Attributes:
    methods: "infusion" and names of `peers.METHODS`; all that need no further library.
    calls: numbers of network calls.
    main_calls: the number that the table is about.
    num_samples: pictures a row of the table.
    curve_samples: pictures a point of the plot.
    sigma: of the Parzen kernel; 0: chosen on validation, row by row.
    likelihood_images: test images that likelihoods are estimated on; 0: all.
    ais_images: of those, how many are annealed where a method decodes noise.
    temperatures: of that annealing.
    classifier_epochs: of the classifier that pictures are scored by.
    seed: of all pictures and estimates.
  """

  methods: tuple[str, ...] = (peers.OURS, *peers.PLAIN)
  calls: tuple[int, ...] = (1, 2, 5, 10, 15, 30, 100)
  main_calls: int = 15
  num_samples: int = 10_000
  curve_samples: int = 2000
  sigma: float = parzen.SIGMA
  likelihood_images: int = 1000
  ais_images: int = 50
  temperatures: int = 1000
  classifier_epochs: int = 10
  seed: int = 0

  def __post_init__(self) -> None:
    if not self.methods:
      raise UserError("compare.methods is empty; at least one method is needed")
    for name in self.methods:
      if name != peers.OURS and name not in peers.METHODS:
        allowed = ", ".join([peers.OURS, *peers.METHODS])
        raise UserError(f"compare.methods names {name!r}; allowed are {allowed}")
      origin = peers.ORIGINS.get(name)
      if origin and origin not in self.methods[: self.methods.index(name)]:
        raise UserError(
          f"compare.methods names {name!r}, which needs {origin!r} before"
        )
    if not self.calls or min(self.calls) < 1 or self.main_calls not in self.calls:
      raise UserError(
        f"compare.calls is {self.calls}; whole numbers of at least 1 are needed, and"
        f" compare.main_calls = {self.main_calls} among them"
      )
    for name, least in _LEAST.items():
      if not least <= getattr(self, name) <= _MOST:
        raise UserError(
          f"compare.{name} is {getattr(self, name)}; it must lie between {least} and"
          f" {_MOST}"
        )
