"""Benchmarks: that they run, name their numbers, and compare equal work."""

import functools
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import timing, workloads
from infusion_jax import objectives, random

ROOT = pathlib.Path(__file__).parent.parent.parent
TINY = workloads.Size(side=4, hidden=(8, 8), num_steps=3, batch_size=6)


def run(*arguments):
  command = [sys.executable, "-m", "benchmarks.run", "--small", "--rounds=1"]
  return subprocess.run(
    [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
  )


def test_the_numbers_others_rely_on_are_there(tmp_path):
  file = tmp_path / "numbers.json"
  result = run("--only=train_step,sampling,bound,parzen", f"--json={file}")
  assert result.returncode == 0, result.stderr
  found = json.loads(file.read_text())
  assert set(found) == {"train_step", "sampling", "bound", "parzen", "about"}
  for key in (
    "ratio_to_torch_compile",
    "ratio_to_torch_eager",
    "ratio_to_torch_compile_bfloat16",
    "float32_over_bfloat16",
    "fraction_of_own_matmuls",
    "fraction_of_matmul_ceiling",
  ):
    assert key in found["train_step"]
  assert found["train_step"]["fraction_of_own_matmuls"] > 0
  assert found["about"]["commit"]
  assert "fraction_of_own_matmuls" in result.stdout


def test_an_unknown_benchmark_is_named():
  result = run("--only=everything")
  assert result.returncode != 0
  assert "'everything'" in result.stderr
  assert "Traceback" not in result.stderr


def test_ratios_are_taken_within_a_round():
  times = timing.Times(
    {"a": np.array([2.0, 40.0, 6.0]), "b": np.array([1.0, 10.0, 2.0])}
  )
  assert times.ratio("a", "b") == 3.0
  assert times.median("a") == 6.0


def test_useful_flops_are_those_of_the_products():
  ours = functools.partial(workloads._products, jnp.matmul)
  z = jax.ShapeDtypeStruct((TINY.batch_size, TINY.pixels), np.float32)
  matrices = [jax.ShapeDtypeStruct(shape, np.float32) for shape in TINY.layers]
  text = str(
    jax.make_jaxpr(lambda z, m: ours(TINY.num_steps, False, z, m))(z, matrices)
  )
  # Three products forward, three for the matrices, two for the inputs.
  assert text.count("dot_general") == 8
  b, (first, *rest) = TINY.batch_size, TINY.layers
  by_hand = 2 * 2 * b * first[0] * first[1] + sum(3 * 2 * b * m * n for m, n in rest)
  assert TINY.useful_flops == TINY.num_steps * by_hand


def test_the_peer_computes_the_same_loss_and_gradient():
  torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra bench)")
  from benchmarks.peer import Peer

  ours = workloads.Ours(TINY)
  network, infusion = ours.recipe.network, ours.run.infusion
  key = jax.random.key(3)
  x = jax.random.uniform(key, (6, 4, 4, 1))
  expected = objectives.denoising(
    key, network.train, ours.state.parameters, x, infusion
  )
  prior = [np.array(leaf).reshape(-1) for leaf in infusion.prior]
  images = ours.dataset.train.reshape(-1, TINY.pixels)
  peer = Peer(images, (8, 8), np.array(infusion.rates), prior, compiled=False)
  shared = ours.state.parameters.shared
  dense = [peer.operator.hidden[0], peer.operator.hidden[1], peer.operator.heads]
  with torch.no_grad():
    for index, layer in enumerate(dense):
      kernel = np.array(shared[f"Dense_{index}"]["kernel"])
      layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
    peer.operator.heads.bias.zero_()

  def draw(t, shape):  # As gaussian.mixture_sample draws them.
    step_key = random.fold_in(key, t)
    noise = random.normal(random.fold_in(step_key, 0), x.shape)
    chance = random.uniform(random.fold_in(step_key, 1), x.shape)
    return [torch.from_numpy(np.array(a).reshape(shape)) for a in (noise, chance)]

  target = torch.from_numpy(np.array(x).reshape(6, -1))
  loss = peer.loss_and_gradient(target, draw)
  np.testing.assert_allclose(loss.item(), expected.loss, rtol=1e-5)
  for index, layer in enumerate(dense):
    gradient = np.array(expected.gradient.shared[f"Dense_{index}"]["kernel"])
    np.testing.assert_allclose(layer.weight.grad.numpy().T, gradient, atol=2e-6)
