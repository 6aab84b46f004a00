"""The variational autoencoder of Wu et al. (2017), VAE-50, by annealing: MNIST.

    python -m experiments.compare --config=configs/compare/vae50.py --workdir=DIR \\
        --config.base.data.source=idx --config.base.data.path=FOLDER

"On the quantitative analysis of decoder-based generative models": noise of 50 numbers,
a decoder 50-1024-1024-1024-784, images x/256 + U/256; 991.4 nats at an output variance
of 0.005, of the test images. One epoch of infusion would cost as much as these 8.

Expected time: 19 minutes of training on a busy machine, ten of measuring.
Expected result: 698.9 +- 43.6 nats by annealing, sandwich gap 3.5 (16 images); bound
617.8 +- 15.3 (200 images). See results/compare/README.md for what is missing.
"""

import ml_collections

from configs import mnist
from configs.compare import common


def get_config() -> ml_collections.ConfigDict:
  config = common.of(mnist.get_config())
  config.base.model.hidden_sizes = (1024, 1024, 1024)
  config.base.train.batch_size = 100
  config.base.train.num_epochs = 1
  config.compare.methods = ("vae",)
  config.compare.num_samples = 2000
  config.compare.curve_samples = 2000
  config.compare.likelihood_images = 200
  config.compare.ais_images = 16
  config.compare.temperatures = 1500
  config.compare.classifier_epochs = 2
  return config
