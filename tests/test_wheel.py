"""What `pip install` gives: one package, console scripts, runs from an empty folder."""

import os
import pathlib
import subprocess
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run(site, folder, script, *arguments):
  return subprocess.run(
    [str(site / "bin" / script), *arguments],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(site)},
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


def test_one_package_is_installed(wheel):
  with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
  tops = {name.split("/")[0] for name in names}
  assert {top for top in tops if not top.endswith(".dist-info")} == {"infusion_jax"}
  inside = {name.removeprefix("infusion_jax/_launch/") for name in names}
  for path in sorted([*ROOT.glob("experiments/*.py"), *ROOT.glob("configs/**/*.py")]):
    assert str(path.relative_to(ROOT)) in inside
  assert "infusion_jax/storage/published.json" in names
  for path in ROOT.glob("infusion_jax/views/web/*"):
    assert str(path.relative_to(ROOT)) in names


def test_every_launcher_has_a_script(site):
  scripts = {path.name for path in (site / "bin").iterdir()}
  for path in ROOT.glob("experiments/*.py"):
    if "common.run(main)" in path.read_text():
      assert f"infusion-{path.stem.replace('_', '-')}" in scripts


@pytest.mark.slow
def test_training_and_sampling_from_an_empty_folder(site, tmp_path):
  trained = run(
    site,
    tmp_path,
    "infusion-train",
    "--config=digits",
    "--workdir=x",
    "--config.train.num_epochs=1",
    "--config.data.max_images=100",
    "--config.model.hidden_sizes=(8,)",
    "--noprogress",
  )
  assert trained.returncode == 0, trained.stderr
  assert "trained 1 epochs" in trained.stdout
  launched = (tmp_path / "x/launches.jsonl").read_text()
  assert '"command": "infusion-train --config' in launched
  drawn = run(site, tmp_path, "infusion-sample", "--workdir=x", "--seeds=0-3")
  assert drawn.returncode == 0, drawn.stderr
  assert list((tmp_path / "x").glob("*.png"))
  shown = run(site, tmp_path, "infusion-page", "--workdir=x")
  assert shown.returncode == 0, shown.stderr
  assert "globalThis.infusion" in (tmp_path / "x/page.html").read_text()
  assert {path.name for path in tmp_path.iterdir()} == {"x"}


def test_mistakes_and_help_are_those_of_the_launchers(site, tmp_path):
  refused = run(site, tmp_path, "infusion-evaluate", "--workdir=none")
  assert refused.returncode == 2
  assert refused.stderr.startswith("error: ") and "none" in refused.stderr
  told = run(site, tmp_path, "infusion-train", "--help")
  assert told.returncode == 0, told.stderr
  assert "--workdir" in told.stdout and "train.num_epochs" in told.stdout
