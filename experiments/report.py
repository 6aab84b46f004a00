"""Writes a run or a sweep as one HTML file: python -m experiments.report --workdir=DIR.

Samples and their animation, the evaluation and what its numbers rest on, curves,
neighbours, inpaintings, time, configuration. Of a sweep: samples, the table of its
runs, curves. The file opens from disk, without a network.
"""

import pathlib

from absl import flags

from experiments import common, selection
from infusion_jax import model
from infusion_jax.drawing import outputs
from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.views import html_report, sweep_report

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run or sweep.")
_OUT = flags.DEFINE_string("out", None, "The .html file; default WORKDIR/report.html.")
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Length of the chains; by default as trained.", lower_bound=1
)
_DATA_PATH = flags.DEFINE_string(
  "data_path", None, "Where the data set is now, if not where the run had it."
)


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Reads the folder and writes the report beside what is in it."""
  del argv
  folder = pathlib.Path(_WORKDIR.value).expanduser()
  of_sweep = sweep_report.is_sweep(folder)
  if not of_sweep:
    folder, _ = model.locate(folder)
  out = _OUT.value or str(folder / "report.html")
  outputs.check(out, (".html",))
  text = _of_sweep(folder) if of_sweep else _of_run(folder)
  files.save_bytes(out, text.encode())
  print(f"wrote {out}")


def _of_sweep(folder: pathlib.Path) -> str:
  for name in ("num_steps", "data_path"):
    if flags.FLAGS[name].value is not None:
      raise UserError(f"--{name} does not go with a sweep, and {folder} is one")
  return sweep_report.of_sweep(folder)


def _of_run(folder: pathlib.Path) -> str:
  trained = model.load(_WORKDIR.value)
  dataset, missing = None, ""
  try:
    dataset = selection.load_dataset(trained, _DATA_PATH.value)
  except UserError as error:
    if _DATA_PATH.value:
      raise
    missing = str(error)
  return html_report.of_run(
    trained, folder, dataset, missing=missing, num_steps=_NUM_STEPS.value
  )


if __name__ == "__main__":
  common.run(main)
