"""Numbers of a trained model, each with its protocol, kept as they come.

A metric is a function from a `Session` to `Measurement`s, marked by `@metric(name)`:
that is all there is to do for another one. What a metric has finished is written at
once, so that an interrupted evaluation goes on where it was: whole measurements to
`evaluation.json`, pieces of long ones beside it.
"""

from collections.abc import Iterable

from infusion_jax.errors import UserError
from infusion_jax.evaluation import ais, conditional, likelihoods, pictures, references
from infusion_jax.evaluation.conditional import check_labels
from infusion_jax.evaluation.pictures import check_extractors
from infusion_jax.evaluation.protocol import Measurement, Protocol
from infusion_jax.evaluation.references import references_of
from infusion_jax.evaluation.results import (
  Published,
  Report,
  caution,
  identity,
  in_words,
  paired,
  published,
)
from infusion_jax.evaluation.session import (
  METRICS,
  Parts,
  Session,
  metric,
  stop_if,
  with_population_statistics,
)

__all__ = [
  "METRICS",
  "Measurement",
  "Parts",
  "Protocol",
  "Published",
  "Report",
  "Session",
  "ais",
  "caution",
  "check_extractors",
  "check_labels",
  "check_metrics",
  "conditional",
  "identity",
  "in_words",
  "likelihoods",
  "metric",
  "paired",
  "pictures",
  "published",
  "references",
  "references_of",
  "stop_if",
  "with_population_statistics",
]


def check_metrics(names: Iterable[str]) -> list[str]:
  """The names, stripped; UserError for one that is no metric, or for none."""
  names = [name.strip() for name in names if name.strip()]
  for name in names:
    if name not in METRICS:
      raise UserError(f"metric is {name!r}; allowed are {', '.join(METRICS)}")
  if not names:
    raise UserError(f"metrics is empty; allowed are {', '.join(METRICS)}")
  return names
