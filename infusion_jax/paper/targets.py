"""Descriptions of every table and figure of the thesis: data, no logic.

A model is trained once and serves all targets that name it. Data are looked for
in one folder (`--data`, or $INFUSION_JAX_DATA): `mnist/` with the four official
files; cifar10_jpeg_*.zip, celeba64_subset.zip, fer2013_48.zip; or, preferred where
they are there, `tensorflow_datasets/` with cifar10 and celeb_a as prepared by
experiments.prepare_data, and TFD_48x48.mat.
"""

from infusion_jax.paper.descriptions import Book, Panel, Run, Source, Sweep, Target

_TFDS = ("tensorflow_datasets",)

_MNIST = (
  Source("mnist", ("mnist",), changes={"data.source": "idx"}),
  Source("mnist", _TFDS, ("tensorflow_datasets/mnist",)),
)
_FACES = (
  Source("tfd:mat", ("TFD_48x48.mat",)),
  Source(
    "tfd",
    ("fer2013_48.zip",),
    note="FER2013 stands in for the Toronto Face Database, which is not public",
  ),
)
_CIFAR10 = (
  Source("cifar10", _TFDS, ("tensorflow_datasets/cifar10",)),
  Source(
    "cifar10:files",
    ("cifar10_jpeg_train.zip", "cifar10_jpeg_test.zip"),
    note="LOSSY CIFAR-10 (JPEG, about 30 dB): comparable with itself only",
  ),
)
_CELEBA = (
  Source("celeba", _TFDS, ("tensorflow_datasets/celeb_a",)),
  Source(
    "celeba:files",
    ("celeba64_subset.zip",),
    note="16,000 CelebA faces, cropped more loosely than the thesis's",
  ),
)

_NO_PREVIEWS = {"train.preview_every": 0}
_SMALL_MNIST = {
  "data.max_images": 10_000,
  "train.batch_size": 64,
  "train.num_epochs": 8,
  **_NO_PREVIEWS,
}
_TINY = {
  "data.max_images": 120,
  "train.batch_size": 20,
  "train.num_epochs": 2,
  "train.monitor_images": 20,
}
_TINY_MLP = {**_TINY, "model.hidden_sizes": (32, 32)}
_SMALL_CONV = {
  "chain.num_steps": 5,
  "chain.omega": 0.05,
  "train.batch_size": 25,
  "train.learning_rate": 3e-3,
  "train.monitor_images": 100,
  **_NO_PREVIEWS,
}

_MEDIUM = {"model.dtype": "auto", **_NO_PREVIEWS}
_AVERAGED = {"train.ema_decay": 0.999, **_MEDIUM}
_MEDIUM_CONV = {
  "chain.num_steps": 5,
  "chain.omega": 0.05,
  "data.max_images": 5000,
  "train.batch_size": 50,
  "train.learning_rate": 3e-3,
  "train.num_epochs": 20,
  "train.checkpoint_every": 1,
  "train.monitor_images": 200,
  **_AVERAGED,
}

RUNS = (
  Run(
    "mnist",
    "MNIST, T = 15, rate increasing by 0.01",
    _MNIST,
    small={
      **_SMALL_MNIST,
      "train.keep_every": 4,
      "train.parzen_every": 2,
      "train.parzen_samples": 2000,
    },
    full={"train.parzen_every": 10, "train.checkpoint_every": 10},
    medium={
      "train.num_epochs": 100,
      "train.checkpoint_every": 5,
      "train.decay": "cosine",
      **_AVERAGED,
    },
    smoke={
      **_TINY_MLP,
      "train.keep_every": 1,
      "train.parzen_every": 1,
      "train.parzen_samples": 64,
    },
  ),
  Run(
    "mnist_constant",
    "MNIST, T = 15, constant rate 0.06",
    _MNIST,
    small={
      **_SMALL_MNIST,
      "chain.alpha0": 0.06,
      "chain.omega": 0.0,
      "train.num_epochs": 4,
    },
    full={"chain.alpha0": 0.06, "chain.omega": 0.0, "train.checkpoint_every": 10},
    medium={"train.num_epochs": 20, "train.checkpoint_every": 1, **_MEDIUM},
    smoke={**_TINY_MLP, "train.num_epochs": 1},
  ),
  Run(
    "mnist_30_steps",
    "MNIST, T = 30, rate increasing by 0.01",
    _MNIST,
    small={
      **_SMALL_MNIST,
      "data.max_images": 3000,
      "chain.num_steps": 30,
      "train.batch_size": 50,
      "train.num_epochs": 5,
      "train.keep_every": 1,
    },
    full={"chain.num_steps": 30, "train.num_epochs": 10, "train.keep_every": 1},
    medium={"train.num_epochs": 5, **_MEDIUM},
    smoke={**_TINY_MLP, "chain.num_steps": 6},
  ),
  Run(
    "faces",
    "48x48 faces in grey",
    _FACES,
    small={
      "data.max_images": 3000,
      "model.hidden_sizes": (400, 400),
      "train.batch_size": 40,
      "train.num_epochs": 5,
      **_NO_PREVIEWS,
    },
    medium={"train.num_epochs": 30, "train.checkpoint_every": 1, **_AVERAGED},
    smoke={**_TINY_MLP, "chain.num_steps": 5},
  ),
  Run(
    "cifar10",
    "CIFAR-10",
    _CIFAR10,
    small={
      **_SMALL_CONV,
      "data.max_images": 1000,
      "model.channels": (32, 16, 8),
      "train.num_epochs": 2,
    },
    medium={**_MEDIUM_CONV, "model.channels": (64, 32, 16)},
    smoke={**_TINY, "model.channels": (8, 8, 8), "chain.num_steps": 3},
  ),
  Run(
    "celeba",
    "CelebA 64x64",
    _CELEBA,
    small={
      **_SMALL_CONV,
      "data.max_images": 750,
      "model.channels": (32, 16, 16, 8),
      "train.num_epochs": 3,
    },
    medium={**_MEDIUM_CONV, "model.channels": (64, 32, 16, 16)},
    smoke={**_TINY, "model.channels": (8, 8, 8, 8), "chain.num_steps": 3},
  ),
  Sweep(
    "table_a1",
    "MNIST, infusion rates",
    "sweeps/table_a1",
    _MNIST,
    panels={
      "small": (
        Panel("a", changes={"train.num_epochs": 6}),
        Panel("b", changes={"train.num_epochs": 4}),
        Panel("c", (0.01, 0.02, 0.03, 0.05), {"train.num_epochs": 2}),
        Panel("d", (0.01, 0.02, 0.03), {"train.num_epochs": 2}),
        Panel("e", (0.06, 0.08, 0.1), {"train.num_epochs": 2}),
        Panel("f", (0.04, 0.06, 0.08), {"train.num_epochs": 2}),
      ),
      # T = 1 whole; of T = 5, 10 and 15 the best rate of the thesis and its neighbours.
      # The run "mnist" trains T = 15 for longer.
      "medium": (
        Panel("a", changes={"train.num_epochs": 25}),
        Panel("b", (0.08, 0.1, 0.15), {"train.num_epochs": 12}),
        Panel("b_twice", (0.1,), {"train.num_epochs": 12}),
        Panel("c", (0.01, 0.02, 0.03), {"train.num_epochs": 5}),
        Panel("d", (0.0, 0.01, 0.02), {"train.num_epochs": 4}),
      ),
      "full": tuple(map(Panel, "abcdef")),
      "smoke": (
        Panel("a", (0.1, 0.3, 0.5), {"train.num_epochs": 2}),
        Panel("d", (0.01, 0.02), {"train.num_epochs": 1}),
        Panel("f", (0.06, 0.1), {"train.num_epochs": 1}),
      ),
    },
    changes={
      "small": {"data.max_images": 2000, "train.batch_size": 40},
      "medium": {
        "model.dtype": "bfloat16",
        "train.decay": "cosine",
        "train.checkpoint_every": 1,
      },
      "full": {},
      "smoke": _TINY_MLP,
    },
    protocol={
      "small": {"num_images": 200, "num_chains": 5},
      "medium": {"num_images": 0, "num_chains": 10},
      "full": {"num_images": 0, "num_chains": 10},
      "smoke": {"num_images": 10, "num_chains": 2, "num_samples": 6},
    },
  ),
)

TARGETS = (
  Target(
    "table_3_1",
    "Table 3.1",
    "log-likelihood on MNIST, test and training images",
    "likelihoods",
    ("mnist",),
    (("table_3_1_mnist_log_likelihood",),),
    small={
      "test": {"num_images": 100, "num_chains": 50, "repetitions": 2},
      "train": {"num_images": 50, "num_chains": 50, "repetitions": 2},
      "beyond": ("ais", "ais_isotropic"),
      "annealing": {"ais_images": 4, "ais_chains": 2, "temperatures": 50},
    },
    full={
      "test": {"num_images": 1000, "num_chains": 20_000, "repetitions": 10},
      "train": {"num_images": 100, "num_chains": 20_000, "repetitions": 10},
      "beyond": ("importance_tuned", "ais", "ais_isotropic"),
      "annealing": {"ais_images": 64, "ais_chains": 8, "temperatures": 2000},
    },
    medium={
      "test": {"num_images": 1000, "num_chains": 100, "repetitions": 1},
      "train": {"num_images": 100, "num_chains": 100, "repetitions": 1},
      "annealing": {"ais_images": 64, "ais_chains": 2, "temperatures": 500},
    },
    smoke={
      "test": {"num_images": 10, "num_chains": 4, "repetitions": 2},
      "train": {"num_images": 5, "num_chains": 4, "repetitions": 2},
      "beyond": (),
    },
  ),
  Target(
    "figure_3_1",
    "Figure 3.1",
    "model sampling chains on MNIST, one row a sample, one column a step",
    "chains",
    ("mnist",),
    (("figures", "3.1"),),
    small={"rows": 8},
    full={"rows": 8},
  ),
  Target(
    "figure_3_2",
    "Figure 3.2",
    "infusion chains of 30 steps towards one 3, one row an epoch of training",
    "epochs",
    ("mnist_30_steps",),
    (("figures", "3.2"),),
    # The first 3 among MNIST's test images.
    small={"image": 18},
    full={"image": 18},
  ),
  Target(
    "figure_3_3",
    "Figure 3.3",
    "training curves on MNIST: lower bounds, and the Parzen estimate",
    "curves",
    ("mnist",),
    (("figures", "3.3"),),
  ),
  Target(
    "figure_3_4",
    "Figure 3.4",
    "Parzen estimate of the test log-likelihood on MNIST",
    "parzen",
    ("mnist",),
    (("figure_3_4_mnist_parzen",),),
    small={"num_samples": 10_000},
    full={"num_samples": 10_000},
    smoke={"num_samples": 100},
  ),
  Target(
    "figure_3_5",
    "Figure 3.5",
    "mean predictions on four data sets; last column the nearest training image of"
    " the one before",
    "samples",
    ("mnist", "faces", "cifar10", "celeba"),
    (("figures", "3.5"),),
    small={"rows": 6, "columns": 9, "length": 2},
    full={"rows": 8, "columns": 11, "length": 2},
    smoke={"rows": 2, "columns": 3},
  ),
  Target(
    "figure_3_6",
    "Figure 3.6",
    "inpainting on CelebA: the top half is kept",
    "inpainting",
    ("celeba",),
    (("figures", "3.6"),),
    small={"images": 5, "restarts": 6},
    full={"images": 8, "restarts": 8},
    smoke={"images": 2, "restarts": 2},
  ),
  Target(
    "table_3_2",
    "Table 3.2",
    "Inception score on CIFAR-10",
    "score",
    ("cifar10",),
    (("table_3_2_cifar10_inception_score",),),
    small={"score_samples": 500},
    full={"score_samples": 50_000},
    medium={"score_samples": 5000},
    smoke={"score_samples": 20},
    needs="inception",
  ),
  Target(
    "table_a1",
    "Table A.1",
    "test bound and sample means for every infusion rate on MNIST",
    "rates",
    ("table_a1",),
    (("table_a1_mnist_lower_bound_test",),),
  ),
  Target(
    "figure_a_1",
    "Figure A.1",
    "validation bound by epoch for every infusion rate on MNIST",
    "rate_curves",
    ("table_a1",),
    (("figures", "A.1"), ("figure_a1_constant_rate",)),
  ),
  Target(
    "figure_a_2",
    "Figure A.2",
    "infused and generated chains, constant against increasing rate, T = 15",
    "schedules",
    ("mnist", "mnist_constant"),
    (("figures", "A.2"),),
    # Both after as many epochs.
    small={"rows": 4, "epoch": 4},
    full={"rows": 5, "epoch": 0},
    smoke={"epoch": 1},
  ),
  Target(
    "figure_a_3",
    "Figure A.3",
    "infusion chains (last column the target) and model chains on CIFAR-10",
    "both_chains",
    ("cifar10",),
    (("figures", "A.3"),),
    small={"rows": 6},
    full={"rows": 8},
    smoke={"rows": 2},
  ),
  Target(
    "figure_a_4",
    "Figure A.4",
    "infusion chains (last column the target) and model chains on CelebA",
    "both_chains",
    ("celeba",),
    (("figures", "A.4"),),
    small={"rows": 6},
    full={"rows": 8},
    smoke={"rows": 2},
  ),
)

BOOK = Book(
  {run.name: run for run in RUNS}, {target.name: target for target in TARGETS}
)
