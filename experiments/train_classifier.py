"""Trains the classifier of the classifier score on a data set with classes.

    python -m experiments.train_classifier --config=configs/digits.py --out=digits.npz

Classes come from label files, class folders or the data set itself; of the
configuration only config.data counts. The test accuracy is printed and kept.
"""

import pathlib

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import common
from infusion_jax import datasets
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.metrics import classifier
from infusion_jax.metrics.classifier import Classifier

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Configuration file, e.g. configs/digits.py.", lock_config=True
)
_OUT = flags.DEFINE_string("out", None, "File to write, .npz.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Passes over the data.", lower_bound=1)
_SEED = flags.DEFINE_integer(
  "seed", 0, "Decides everything random.", lower_bound=0, upper_bound=2**32 - 1
)


@common.needs("config", "out")
def main(argv: list[str]) -> None:
  """Loads, trains, tests, writes."""
  del argv
  config = Config.from_dict(common.config_values(_CONFIG))
  out = pathlib.Path(_OUT.value)
  if out.suffix != ".npz" or not out.parent.is_dir():
    raise UserError(
      f"--out is {str(out)!r}; allowed is a .npz file in an existing folder"
    )
  settings = classifier.Settings(epochs=_EPOCHS.value, seed=_SEED.value)
  trained = fit(config, settings)
  classifier.save(out, trained)
  print(f"test accuracy {trained.about['test_accuracy']:.4f}; wrote {out}")


def fit(config: Config, settings: classifier.Settings) -> Classifier:
  """Trains on the training split and notes the accuracy on the test split."""
  labels = datasets.labels_from_config(config.data)
  dataset = datasets.from_config(config.data)
  trained = classifier.train(dataset.train, labels["train"], dataset.levels, settings)
  test = np.float32(dataset.test) / dataset.levels
  trained.about.update(
    dataset=dataset.name,
    seed=settings.seed,
    epochs=settings.epochs,
    test_accuracy=trained.accuracy(test, labels["test"]),
  )
  return trained


if __name__ == "__main__":
  common.run(main)
