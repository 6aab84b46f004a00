"""The Parzen-window metric: samples of the model as kernels."""

import jax
import jax.numpy as jnp
import numpy as np

from infusion_jax import pixels, sampling
from infusion_jax.evaluation.session import Measurement, Session
from infusion_jax.metrics import parzen


def sample_means(session: Session, count: int) -> np.ndarray:
  """Means of the last transition of `count` model chains, [count, H, W, C]."""
  model = session.model
  num_steps = session.protocol.num_steps or model.network.num_steps
  keys = jax.random.split(session.key("samples"), count)
  parts = []
  with session.bar(count, "samples") as bar:
    for part in sampling.means(model.network, model.weights, keys, num_steps):
      parts.append(part)
      bar.update(len(part))
  return np.concatenate(parts)


def parzen_window(session: Session) -> list[Measurement]:
  """The Parzen estimate of figure 3.4: clean test images, means of samples."""
  protocol, levels = session.protocol, session.dataset.levels
  means = sample_means(session, protocol.num_samples)
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
        "chain_steps": protocol.num_steps or session.model.network.num_steps,
        "chosen_on_validation": not protocol.sigma,
      },
      details=details,
    )
  ]
