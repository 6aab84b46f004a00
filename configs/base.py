"""The defaults of all configurations, as a ConfigDict to be changed."""

import ml_collections

from infusion_jax.config import Config


def get_config() -> ml_collections.ConfigDict:
  """Every key with its default; see `infusion_jax.config` for their meaning."""
  values = Config().to_dict()
  # Tuples rather than lists: on the command line (64,64) then overrides them.
  values["model"]["hidden_sizes"] = tuple(values["model"]["hidden_sizes"])
  values["chain"]["rates"] = ()
  return ml_collections.ConfigDict(values)
