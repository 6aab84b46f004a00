"""Writes a page that runs a model in the browser.

  python -m experiments.page --workdir=DIR --out=page.html

One HTML file with the weights inside, to be opened from disk: watch chains step by
step, complete what you paint, infuse what you draw. For networks "mlp".
"""

from absl import flags

from experiments import common
from infusion_jax import model
from infusion_jax.drawing import outputs
from infusion_jax.storage import files
from infusion_jax.views import web_page

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir or checkpoint of the model.")
_OUT = flags.DEFINE_string("out", None, "The .html file; default WORKDIR/page.html.")


@common.needs("workdir")
def main(argv: list[str]) -> None:
  """Loads the model and writes the page."""
  del argv
  workdir, _ = model.locate(_WORKDIR.value)
  out = _OUT.value or str(workdir / "page.html")
  outputs.check(out, (".html",))
  text = web_page.of_model(model.load(_WORKDIR.value)).encode()
  files.save_bytes(out, text)
  print(f"wrote {out} ({len(text) / 1e6:.2f} MB)")


if __name__ == "__main__":
  common.run(main)
