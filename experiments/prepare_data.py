"""Prepares a data set of tensorflow_datasets for source "tfds".

  python -m experiments.prepare_data --dataset=mnist --data_dir=DIR

downloads MNIST and writes DIR/mnist/3.0.1 as array_record files. With
--manual_dir=ARCHIVES the archives are taken from there and nothing is
downloaded. Preparing needs TensorFlow, reading what was prepared does not:

  pip install -e '.[prepare]'
"""

from absl import flags

from experiments import common
from infusion_jax.datasets import prepare

_DATASET = flags.DEFINE_string(
  "dataset", None, "Name in tfds: mnist, cifar10, emnist/letters ..."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder for prepared data; this is config.data.path later."
)
_MANUAL_DIR = flags.DEFINE_string(
  "manual_dir", None, "Folder with the archives; without it they are downloaded."
)


@common.needs("dataset", "data_dir")
def main(argv: list[str]) -> None:
  """Prepares the data set that the flags name and says where it is.

  Raises:
    UserError: A flag is wrong, or the preparation fails.
  """
  del argv
  folder, counts = prepare.prepare(_DATASET.value, _DATA_DIR.value, _MANUAL_DIR.value)
  for split, count in counts.items():
    print(f"{split}: {count:,} examples")
  print(f"prepared in {folder}")
  print(
    "use it with --config.data.source=tfds"
    f" --config.data.name={_DATASET.value} --config.data.path={folder}"
  )


if __name__ == "__main__":
  common.run(main)
