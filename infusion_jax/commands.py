"""Console scripts: `infusion-train` is `python -m experiments.train`, from anywhere.

A wheel carries the launchers and their configurations in a private folder of this
package; in a checkout they are the folders `experiments/` and `configs/` beside it.
"""

import functools
import importlib
import pathlib
import runpy
import sys

_HERE = pathlib.Path(__file__).parent

#: The console script that runs, such as "infusion-train"; empty: none does.
current = ""


def launchers() -> pathlib.Path:
  """The folder that holds `experiments/` and `configs/`."""
  installed = _HERE / "_launch"
  return installed if (installed / "experiments").is_dir() else _HERE.parent


def _run(name: str) -> None:
  global current
  current = f"infusion-{name}"
  sys.path.insert(0, str(launchers()))
  importlib.import_module("experiments.process").begin()
  module = f"experiments.{name.replace('-', '_')}"
  runpy.run_module(module, run_name="__main__", alter_sys=True)


train = functools.partial(_run, "train")
evaluate = functools.partial(_run, "evaluate")
sample = functools.partial(_run, "sample")
inpaint = functools.partial(_run, "inpaint")
restore = functools.partial(_run, "restore")
density = functools.partial(_run, "density")
curves = functools.partial(_run, "curves")
report = functools.partial(_run, "report")
page = functools.partial(_run, "page")
sweep = functools.partial(_run, "sweep")
reproduce = functools.partial(_run, "reproduce")
export = functools.partial(_run, "export")
prepare_data = functools.partial(_run, "prepare-data")
train_classifier = functools.partial(_run, "train-classifier")
compare = functools.partial(_run, "compare")
convert_inception = functools.partial(_run, "convert-inception")
