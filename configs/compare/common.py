"""What all comparisons share."""

import ml_collections

from infusion_jax.comparison.rules import Rules


def of(run: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A comparison: infusion's run (`base`), whose budget all share, and the rules."""
  run.train.ema_decay = 0.999
  run.train.decay = "cosine"
  run.train.preview_every = 0
  run.train.monitor_images = 0
  rules = ml_collections.ConfigDict(vars(Rules()))
  return ml_collections.ConfigDict({"base": run, "compare": rules})
