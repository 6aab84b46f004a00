"""Makes the thesis's tables and figures, published values beside ours.

  python -m experiments.reproduce --target=figure_3_1 --workdir=runs/reproduce
  python -m experiments.reproduce --target=all --scale=small --workdir=DIR --out=results
  python -m experiments.reproduce --target=all --scale=full --workdir=DIR --dry_run
  python -m experiments.reproduce --list

Models are trained once in WORKDIR/<scale> and shared by all targets that need them.
What is finished is skipped, unless its description has changed; what was interrupted
goes on where it was. Results are written to OUT/<target>/<scale>, and OUT/README.md
is made of all that are there.
"""

import importlib
import os
import pathlib
import shlex
import sys
from typing import Any

from absl import flags

from experiments import common
from infusion_jax.drawing import markdown
from infusion_jax.errors import UserError
from infusion_jax.paper import index, runs, targets
from infusion_jax.paper.descriptions import SCALES, Book
from infusion_jax.paper.runner import Runner, Task
from infusion_jax.paper.runs import Bench
from infusion_jax.training import signals

_TARGET = flags.DEFINE_string("target", "all", "Names, separated by commas, or all.")
_SCALE = flags.DEFINE_enum(
  "scale",
  "small",
  SCALES,
  "full: the thesis's protocol, for a GPU; medium: a night on a laptop; small: minutes"
  " a target on two cores;"
  " smoke: seconds, to see that all works.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the models; resumed.")
_OUT = flags.DEFINE_string("out", "results", "Folder of the results.")
_DATA = flags.DEFINE_string(
  "data", None, "Folder of the data sets; by default $INFUSION_JAX_DATA, or data."
)
_INCEPTION = flags.DEFINE_string(
  "inception", "", "Weights that experiments.convert_inception made, for table 3.2."
)
_LIST = flags.DEFINE_bool("list", False, "Print the targets and do nothing.")
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Print what there is to do and its cost, and do nothing."
)
_INDEX_ONLY = flags.DEFINE_bool("index_only", False, "Only make OUT/README.md anew.")
_PROGRESS = flags.DEFINE_bool(
  "progress", True, "Bars on stderr, if it is a terminal; else lines."
)


def main(argv: list[str]) -> None:
  """Looks at what there is to do, does it, and makes the page of results."""
  del argv
  book, out = targets.BOOK, pathlib.Path(_OUT.value)
  chosen = book.chosen(_TARGET.value)
  if _LIST.value:
    print(listed(book))
    return
  if _INDEX_ONLY.value:
    print(f"wrote {index.write(out, book)}")
    return
  runs.use_cores()
  runner = Runner(book, _bench(), out, say=_say)
  tasks = runner.plan(chosen)
  _refuse(tasks)
  if _DRY_RUN.value:
    print(runner.describe(tasks))
    return
  try:
    runner.make(tasks, {task.target.name: command(task.target.name) for task in tasks})
  except signals.Stopped as stopped:
    print(f"{stopped}; the same command resumes", file=sys.stderr)
    sys.exit(signals.EXIT_CODE)
  for task in tasks:
    if task.state != "to be made":
      _say(f"{task.target.name}: {task.state} {task.reason}".strip())
  print(f"wrote {index.write(out, book)}")


def _say(text: str) -> None:
  print(text, flush=True)


def listed(book: Book) -> str:
  """The targets as a table."""
  rows = [[t.name, t.title, t.about, ", ".join(t.runs)] for t in book.targets.values()]
  return markdown.table(["target", "thesis", "what", "made from"], rows)


def command(target: str) -> str:
  """The command of one target, with the folders of this machine left out."""
  parts = ["python", "-m", "experiments.reproduce", f"--target={target}"]
  parts += [f"--scale={_SCALE.value}", "--workdir=runs/reproduce"]
  parts += ["--inception=inception.npz"] if _INCEPTION.value else []
  return shlex.join(parts) + " --data=$INFUSION_JAX_DATA"


def _bench() -> Bench:
  if not _WORKDIR.value:
    raise UserError("--workdir is missing; it names the folder of the models")
  data = _DATA.value or os.environ.get("INFUSION_JAX_DATA") or "data"
  if _INCEPTION.value and not pathlib.Path(_INCEPTION.value).is_file():
    raise UserError(f"--inception is {_INCEPTION.value!r}; allowed is a file")
  return Bench(
    workdir=pathlib.Path(_WORKDIR.value),
    data=pathlib.Path(data).absolute(),
    scale=_SCALE.value,
    resolve=resolve,
    inception=_INCEPTION.value,
    progress=_PROGRESS.value,
  )


def resolve(name: str) -> dict[str, Any]:
  """The values of a file of `configs` and its variants, such as "cifar10:files"."""
  file, _, variants = name.partition(":")
  module = importlib.import_module(f"configs.{file.replace('/', '.')}")
  return module.get_config(*([variants] if variants else [])).to_dict()


def _refuse(tasks: list[Task]) -> None:
  """A target asked for by name must be possible; of all, the possible ones are made."""
  for task in tasks:
    if task.state == "skipped" and "all" not in _TARGET.value.split(","):
      raise UserError(f"{task.target.name} cannot be made: {task.reason}")


if __name__ == "__main__":
  common.run(main)
