"""A metric of your own: how much ink samples have, compared with real images.

  python -m experiments.evaluate --workdir=runs/digits \\
      --code=examples/own_metric.py --metrics=ink

A metric is a function from a session to measurements. The session brings the trained
model, the data, the protocol of the command line and streams of random numbers; what
a metric returns is printed and kept in evaluation.json with that protocol.
"""

import numpy as np

from infusion_jax import sampling
from infusion_jax.evaluation import Measurement, Session, metric
from infusion_jax.model import keys_of


@metric("ink")
def ink(session: Session) -> list[Measurement]:
  """The mean of all pixels: that of samples, and beside it that of real images."""
  count = session.protocol.num_samples
  keys = keys_of(session.key("ink"), range(count))
  pictures = np.concatenate(list(sampling.means(session.markov, keys)))
  inks = pictures.mean((1, 2, 3))
  real = (session.images.mean() + 0.5) / session.dataset.levels
  return [
    Measurement(
      "ink",
      value=float(inks.mean()),
      standard_error=float(inks.std(ddof=1) / np.sqrt(count)),
      deviation=None,
      unit="mean pixel",
      protocol=session.described(session.images, num_samples=count),
      details={"real_images": float(real)},
    )
  ]
