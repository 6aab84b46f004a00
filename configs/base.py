"""The defaults of all configurations, as a ConfigDict to be changed."""

import os

import ml_collections

from infusion_jax.config import Config
from infusion_jax.errors import UserError


def get_config() -> ml_collections.ConfigDict:
  """Every key with its default; see `infusion_jax.config` for their meaning."""
  values = Config().to_dict()
  # Tuples rather than lists: on the command line (64,64) then overrides them.
  for section in values.values():
    section.update({k: tuple(v) for k, v in section.items() if isinstance(v, list)})
  return ml_collections.ConfigDict(values)


def variants(text: str, *allowed: str) -> set[str]:
  """The variants that "--config=FILE.py:smoke,unet" asks for.

  Raises:
    UserError: one of them is not in `allowed`.
  """
  asked = {name.strip() for name in text.split(",")} - {""}
  for name in sorted(asked - set(allowed)):
    raise UserError(
      f"--config asks for variant {name!r}; allowed are {', '.join(sorted(allowed))}"
    )
  return asked


def data_path(name: str) -> str:
  """A file or folder in `$INFUSION_JAX_DATA`, or else in `data`."""
  return os.path.join(os.environ.get("INFUSION_JAX_DATA") or "data", name)  # noqa: PTH118


def smoke(config: ml_collections.ConfigDict) -> None:
  """Shrinks a run to about a minute on two cores: it shows that all works."""
  config.data.max_images = 2000  # And 400 for validation.
  config.chain.num_steps = 5
  config.chain.omega = 0.05
  config.train.batch_size = 40
  config.train.num_epochs = 1
  config.train.learning_rate = 3e-3
  config.train.monitor_images = 400
