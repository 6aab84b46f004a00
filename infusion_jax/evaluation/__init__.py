"""Numbers of a trained model, each with its protocol, kept as they come.

A metric is a function from a `Session` to `Measurement`s. What a metric has
finished is written at once, so that an interrupted evaluation goes on where it
was: whole measurements to `evaluation.json`, pieces of long ones beside it.
"""

from collections.abc import Callable, Iterable

from infusion_jax.errors import UserError
from infusion_jax.evaluation.ais import ais, ais_isotropic
from infusion_jax.evaluation.likelihoods import (
  bound,
  importance,
  isotropic,
  tuned_importance,
)
from infusion_jax.evaluation.pictures import (
  check_extractors,
  classifier_scores,
  inception_scores,
)
from infusion_jax.evaluation.results import (
  Published,
  Report,
  identity,
  published,
)
from infusion_jax.evaluation.session import (
  PARTS_FILE,
  Measurement,
  Parts,
  Protocol,
  Session,
  with_population_statistics,
)
from infusion_jax.evaluation.windows import parzen_window

__all__ = [
  "METRICS",
  "PARTS_FILE",
  "Measurement",
  "Parts",
  "Protocol",
  "Published",
  "Report",
  "Session",
  "check_extractors",
  "check_metrics",
  "identity",
  "published",
  "with_population_statistics",
]

#: Metrics by name. To add one, write its function and its line here.
METRICS: dict[str, Callable[[Session], list[Measurement]]] = {
  "bound": bound,
  "importance": importance,
  "importance_tuned": tuned_importance,
  "isotropic": isotropic,
  "ais": ais,
  "ais_isotropic": ais_isotropic,
  "parzen": parzen_window,
  "inception": inception_scores,
  "classifier": classifier_scores,
}


def check_metrics(names: Iterable[str]) -> list[str]:
  """The names, stripped; UserError for one that is no metric, or for none."""
  names = [name.strip() for name in names if name.strip()]
  for name in names:
    if name not in METRICS:
      raise UserError(f"metric is {name!r}; allowed are {', '.join(METRICS)}")
  if not names:
    raise UserError(f"metrics is empty; allowed are {', '.join(METRICS)}")
  return names
