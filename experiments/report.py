"""Writes a run as one HTML file: python -m experiments.report --workdir=DIR.

Config, curves, samples, chains, neighbours, inpaintings and the evaluation table.
The file opens from disk, without a network.
"""

from absl import flags

from experiments import common, selection
from infusion_jax import model
from infusion_jax.drawing import outputs
from infusion_jax.errors import UserError
from infusion_jax.storage import files
from infusion_jax.views import html_report

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of the run.")
_OUT = flags.DEFINE_string("out", None, "The .html file; default WORKDIR/report.html.")
_NUM_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Length of the chains; by default as trained.", lower_bound=1
)
_DATA_PATH = flags.DEFINE_string(
  "data_path", None, "Where the data set is now, if not where the run had it."
)


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Loads the model and, if they can be had, its data; writes the report."""
  del argv
  workdir, _ = model.locate(_WORKDIR.value)
  out = _OUT.value or str(workdir / "report.html")
  outputs.check(out, (".html",))
  trained = model.load(_WORKDIR.value)
  dataset, missing = None, ""
  try:
    dataset = selection.load_dataset(trained, _DATA_PATH.value)
  except UserError as error:
    if _DATA_PATH.value:
      raise
    missing = str(error)
  text = html_report.of_run(
    trained, workdir, dataset, missing=missing, num_steps=_NUM_STEPS.value
  )
  files.save_bytes(out, text.encode())
  print(f"wrote {out}")


if __name__ == "__main__":
  common.run(main)
