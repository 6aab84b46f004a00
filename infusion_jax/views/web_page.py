"""A model as a page that runs its chain in the browser.

One HTML file with everything inside: weights, style and script (`web/`). It loads
nothing and works without a network. Its numbers are those of `chain.generate`,
`chain.clamp` and `chain.infuse`, its seeds those of `model.keys_of`.
"""

import base64
import html
import json
from typing import Any

import numpy as np

from infusion_jax.drawing import clouds
from infusion_jax.errors import UserError
from infusion_jax.gaussian import Gaussian
from infusion_jax.model import Model
from infusion_jax.networks import MLP, StepBatchNorm
from infusion_jax.states.infusion import MIXTURE
from infusion_jax.views import documents

_SCRIPTS = ("noise.js", "chain.js", "canvas.js", "page.js")


def of_model(model: Model) -> str:
  """The page of a model.

  Args:
    model: a multilayer perceptron of grey or colour images.

  Returns:
    The HTML file's content, 16/3 bytes a parameter and some 40 kB.

  Raises:
    UserError: another network, or a model of points.
  """
  description, arrays = payload(model)
  parts = {
    "title": html.escape(f"Infusion training: {model.config.data.name}"),
    "num_steps": str(model.network.num_steps),
    # "</script>" would end the element that holds it.
    "description": json.dumps(description).replace("<", "\\u003c"),
    "weights": base64.b64encode(arrays).decode(),
  }
  body = documents.web_file("page.html")
  for name, value in parts.items():
    body = body.replace(f"[[{name}]]", value)
  title = f"Infusion training: {model.config.data.name}"
  return documents.document(title, body, "page.css", script())


def script() -> str:
  """The page's JavaScript."""
  return "".join(map(documents.web_file, _SCRIPTS))


def payload(model: Model) -> tuple[dict[str, Any], bytes]:
  """What `readModel` of chain.js takes: a description, ready for JSON, and arrays.

  Returns:
    The description, and the arrays' bytes: float32, little-endian, in its order.

  Raises:
    UserError: the network is no multilayer perceptron, it has conditions, or no grey or
      colour images are its states.
  """
  if clouds.are_points(model.image_shape):
    raise UserError(
      f"data.name is {model.config.data.name!r}, points in the plane; a page draws"
      " images alone, experiments.density draws points"
    )
  module = model.network.module
  if not isinstance(module, MLP):
    raise UserError(
      f"model.name is {model.config.model.name!r}; a page runs networks 'mlp' alone"
    )
  if model.num_classes or model.network.shown or module.bits:
    raise UserError(
      f"the model in {model.path} has conditions (model.num_classes, model.condition)"
      " or bits (chain.states); a page runs models of Gaussian states without"
    )
  infusion = model.weights.infusion
  if model.network.distribution is not Gaussian or infusion.proposal != MIXTURE:
    raise UserError(
      f"chain.infusion is {model.config.chain.infusion!r}, model.self_conditioning"
      f" {module.self_conditioning} and model.latents {module.latents}; a page draws"
      " 'mixture', False and 1 alone"
    )
  if infusion.rates.ndim > 1:
    raise UserError(
      f"train.learn_rates is {model.config.train.learn_rates!r}; a page has one rate a"
      " step"
    )
  arrays = {name: np.asarray(a, np.float32) for name, a in _arrays(model).items()}
  description = {
    "name": model.config.data.name,
    "imageShape": list(model.image_shape),
    "numSteps": model.network.num_steps,
    "numLayers": len(module.hidden_sizes),
    "varianceScale": module.variance_scale,
    "varianceFloor": module.variance_floor,
    "targetVariance": float(infusion.target_variance),
    "rates": np.asarray(infusion.rates).tolist(),
    "arrays": [[name, list(array.shape)] for name, array in arrays.items()],
  }
  return description, b"".join(a.astype("<f4").tobytes() for a in arrays.values())


def _arrays(model: Model) -> dict[str, np.ndarray]:
  """Kernels [n, m], scales and shifts [T, m], head [m, 2 d] and prior [d] by name."""
  parameters, statistics, infusion = model.weights
  count = len(model.network.module.hidden_sizes)
  found = {}
  for layer in range(count):
    norm = f"StepBatchNorm_{layer}"
    scale, shift = _folded(parameters.per_step[norm], statistics[norm])
    kernel = parameters.shared[f"Dense_{layer}"]["kernel"]
    found |= {f"kernel{layer}": kernel, f"scale{layer}": scale, f"shift{layer}": shift}
  head = parameters.shared[f"Dense_{count}"]
  prior = infusion.prior
  return found | {
    "headKernel": head["kernel"],
    "headBias": head["bias"],
    "priorMean": np.ravel(prior.mean),
    "priorVariance": np.ravel(prior.variance),
  }


def _folded(
  per_step: dict[str, Any], statistics: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
  """Batch norm with fixed statistics as scale and shift, each [T, m]."""
  mean, variance = (np.float64(statistics[name]) for name in ("mean", "variance"))
  scale = per_step["scale"] / np.sqrt(variance + StepBatchNorm.epsilon)
  return scale, per_step["bias"] - mean * scale
