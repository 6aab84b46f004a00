"""How likely images are under the model: bounds, estimates and their error."""

from infusion_jax.likelihood.importance import (
  Estimates,
  estimate,
  estimate_batches,
  evaluate,
)
from infusion_jax.likelihood.isotropic import (
  Search,
  search_output_variance,
  with_output_variance,
)
from infusion_jax.likelihood.proposal import proposal_grid, tune_proposal
from infusion_jax.likelihood.summary import Gap, Summary, bits_per_dimension, summarize

__all__ = [
  "Estimates",
  "Gap",
  "Search",
  "Summary",
  "bits_per_dimension",
  "estimate",
  "estimate_batches",
  "evaluate",
  "proposal_grid",
  "search_output_variance",
  "summarize",
  "tune_proposal",
  "with_output_variance",
]
