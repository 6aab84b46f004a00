"""The Parzen-window metric: samples of the model as kernels."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import pixels, sampling
from infusion_jax.evaluation.session import Measurement, Session
from infusion_jax.metrics import parzen


def sample_means(session: Session, count: int) -> Iterator[np.ndarray]:
  """Yields means of the last transition of `count` model chains, [b, H, W, C] each."""
  model = session.model
  keys = jax.random.split(session.key("samples"), count)
  with session.bar(count, "samples") as bar:
    for part in sampling.means(model.network, model.weights, keys, session.chain_steps):
      yield part
      bar.update(len(part))


def parzen_window(session: Session) -> list[Measurement]:
  """The Parzen estimate of figure 3.4: clean test images, means of samples."""
  protocol, levels = session.protocol, session.dataset.levels
  means = np.concatenate([*sample_means(session, protocol.num_samples)])
  sigma, details = protocol.sigma, {}
  if not sigma:
    clean = np.asarray(pixels.scaled(jnp.asarray(session.dataset.validation), levels))
    search = parzen.choose_sigma(clean, means)
    sigma = search.best
    details = {
      "sigmas": search.sigmas.tolist(),
      "validation": search.log_likelihood.tolist(),
    }
  # The published protocol uses the whole split, whatever the other metrics do.
  images = session.dataset.split(protocol.split)
  clean = np.asarray(pixels.scaled(jnp.asarray(images), levels))
  return [
    Measurement.of(
      "parzen",
      parzen.evaluate(clean, means, sigma),
      protocol={
        **session.described(num_samples=protocol.num_samples, sigma=sigma),
        "num_images": len(images),
        "chain_steps": session.chain_steps,
        "chosen_on_validation": not protocol.sigma,
      },
      details=details,
    )
  ]
