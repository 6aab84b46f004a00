"""Several devices, in a process that has them, and the flags that choose them."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import runs
from launching import launch

from infusion_jax.errors import UserError
from infusion_jax.training import devices, programs
from infusion_jax.training.state import initial_state, make_recipe, make_run

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_one_and_eight_devices_agree():
  flags = os.environ.get("XLA_FLAGS", "")
  done = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", "-x", "tests/training/eight_devices.py"],
    cwd=ROOT,
    env={
      **os.environ,
      "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8",
      "JAX_PLATFORMS": "cpu",
    },
    capture_output=True,
    text=True,
    timeout=1800,
    check=False,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert " passed" in done.stdout and "skipped" not in done.stdout


def test_one_device_runs_the_program_without_a_mesh():
  config, data = runs.config(), runs.dataset()
  recipe = make_recipe(config, data, devices.make_mesh(1, 16))
  assert recipe == make_recipe(config, data)
  run = make_run(config, data)
  state = initial_state(recipe, run.key)
  assert devices.copied(state, None) is state and devices.local(state, None) is state
  images = devices.shared(data.train, None)
  assert isinstance(images, jax.Array)
  program = programs.compiled(recipe).train_steps.lower(state, run, images, np.int32(1))
  assert f'"{devices.AXIS}"' not in program.as_text()


def test_a_mesh_is_an_axis_and_a_number():
  assert devices.parse_mesh("data:8") == 8
  for text in ("8", "data", "data:", "data:0", "data:-1", "model:2", "data:2,model:2"):
    with pytest.raises(UserError, match=rf"mesh is '{text}'; allowed is data:N"):
      devices.parse_mesh(text)


@pytest.mark.parametrize(
  ("flags", "told"),
  [
    (["--num_devices=1000"], "num_devices is 1000; it must lie between 1 and"),
    (["--mesh=model:2"], "mesh is 'model:2'; allowed is data:N"),
    (["--mesh=data:2", "--num_devices=4"], "both must agree"),
    (["--num_processes=2"], "coordinator_address is ''"),
    (["--process_id=0"], "num_processes 0; allowed are host:port"),
    (
      ["--coordinator_address=a:1", "--num_processes=2", "--process_id=2"],
      "process_id is 2; it must lie between 0 and 1",
    ),
  ],
)
def test_flags_that_fit_nothing_are_told_in_one_sentence(flags, told, tmp_path):
  folder = tmp_path / "run"
  launched = launch(
    "train", "--config=configs/digits.py", f"--workdir={folder}", *flags
  )
  assert launched.returncode == 2
  assert told in launched.stderr and launched.stderr.count("\n") == 1
  assert not folder.exists()
