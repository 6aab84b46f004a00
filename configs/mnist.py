"""MNIST as in the thesis: T = 15, alpha0 = 0, omega = 0.01, 784-1200-1200.

  python -m experiments.train --config=configs/mnist.py --workdir=runs/mnist \\
      --config.data.source=idx --config.data.path=FOLDER_WITH_THE_FOUR_FILES

Data: the four official files (source idx), or what experiments.prepare_data made
(source tfds, path its --data_dir).

Expected time and result of the full run (300 epochs, meant for a GPU): not measured
yet; the thesis reports a test bound of 1350.6 nats. 49 epochs end at 1153.9 and 22 of
the lower bound after them at 1357.2 +- 6.8 (results/mnist_t15). Measured: the short run

  ... --config.chain.num_steps=5 --config.chain.omega=0.1 --config.train.num_epochs=3

ends with a validation bound of 796 nats (statistics of each mini-batch) and a test
bound of 912 +- 16 nats (statistics of the training set; 1,000 images, 50 chains).
On 2 CPU cores an epoch of it takes one to a few minutes, T = 15 three times as long.

Variants: --config=configs/mnist.py:smoke, one epoch of a small network on 2,000
images; :labels, a model that is told which digit to draw (sample --label=3).
"""

import ml_collections

from configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The configuration; variants are named after a colon (see above)."""
  chosen = base.variants(variant, "smoke", "labels")
  config = base.get_config()
  config.data.name = "mnist"
  config.data.source = "tfds"
  config.model.hidden_sizes = (1200, 1200)
  config.chain.num_steps = 15
  config.chain.omega = 0.01
  config.train.batch_size = 128
  config.train.num_epochs = 300
  if "labels" in chosen:
    config.model.num_classes = 10
  if "smoke" in chosen:
    base.smoke(config)
    config.model.hidden_sizes = (64, 64)
  return config
