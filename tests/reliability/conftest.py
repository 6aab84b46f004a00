"""A small trained run and a folder of bad files, shared by the whole suite."""

import shlex

import pytest
from launching import launch
from reliability import bad_files

#: The options `run` was trained with, on the command line.
AS_TRAINED = (
  "--config.data.max_images=50 --config.model.hidden_sizes=(8,)"
  " --config.chain.num_steps=3 --config.train.batch_size=16"
  " --config.train.num_epochs=2 --config.train.preview_every=0"
  " --config.train.checkpoint_every=1"
)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
  """A folder of a trained run (`run`) and bad files (`files`); not to be changed."""
  folder = tmp_path_factory.mktemp("place")
  bad_files.make(folder / "files")
  result = launch(
    "train",
    "--config=configs/digits.py",
    f"--workdir={folder / 'run'}",
    "--noprogress",
    *shlex.split(AS_TRAINED),
  )
  assert result.returncode == 0, result.stderr
  return folder


@pytest.fixture(scope="session")
def as_trained():
  """The flags that continue `run`."""
  return AS_TRAINED
