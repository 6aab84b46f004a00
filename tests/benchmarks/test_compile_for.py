"""Programs for chips that are not here: what their text says, and that they compile."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import types

import jax
import pytest

from benchmarks import chips, compile_for, hlo
from benchmarks.hlo import Collective, Work
from infusion_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]

# An outer loop of any length around an inner one of five iterations. Main memory: the
# table [100,4] is sliced, [8,4] is copied there; S(1) is memory on the chip.
MODULE = """HloModule toy, is_scheduled=true

%sliced (p.0: f32[100,4], p.1: s32[]) -> f32[8,4] {
  %p.0 = f32[100,4]{1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  ROOT %part = f32[8,4]{1,0:S(1)} dynamic-slice(%p.0, %p.1, %p.1), sizes={8,4}
}

%in_body (a: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %a = (s32[]{:S(2)}, f32[8,4]{1,0:S(1)}) parameter(0)
  %x = f32[8,4]{1,0:S(1)} get-tuple-element(%a), index=1
  %sum = f32[8,4]{1,0:S(1)} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
  ROOT %t = (s32[]{:S(2)}, f32[8,4]{1,0:S(1)}) tuple(%x, %sum)
}

%in_until (b: (s32[], f32[8,4])) -> pred[] {
  %b = (s32[]{:S(2)}, f32[8,4]{1,0:S(1)}) parameter(0)
  %i = s32[]{:S(2)} get-tuple-element(%b), index=0
  %five = s32[]{:S(2)} constant(5)
  ROOT %less = pred[]{:S(2)} compare(%i, %five), direction=LT
}

%out_body (c: (s32[], f32[100,4], f32[8,4])) -> (s32[], f32[100,4], f32[8,4]) {
  %c = (s32[]{:S(2)}, f32[100,4]{1,0}, f32[8,4]{1,0}) parameter(0)
  %n = s32[]{:S(2)} get-tuple-element(%c), index=0
  %table = f32[100,4]{1,0} get-tuple-element(%c), index=1
  %taken = f32[8,4]{1,0:S(1)} fusion(%table, %n), kind=kLoop, calls=%sliced
  %start = (s32[]{:S(2)}, f32[8,4]{1,0:S(1)}) tuple(%n, %taken)
  %loop = (s32[], f32[8,4]{1,0:S(1)}) while(%start), condition=%in_until, body=%in_body
  %found = f32[8,4]{1,0:S(1)} get-tuple-element(%loop), index=1
  %begun = (f32[8,4]{1,0}, f32[8,4]{1,0:S(1)}, u32[]{:S(2)}) copy-start(%found)
  %kept = f32[8,4]{1,0} copy-done(%begun)
  ROOT %u = (s32[]{:S(2)}, f32[100,4]{1,0}, f32[8,4]{1,0}) tuple(%n, %table, %kept)
}

%out_until (d: (s32[], f32[100,4], f32[8,4])) -> pred[] {
  %d = (s32[]{:S(2)}, f32[100,4]{1,0}, f32[8,4]{1,0}) parameter(0)
  %j = s32[]{:S(2)} get-tuple-element(%d), index=0
  ROOT %more = pred[]{:S(2)} compare(%j, %j), direction=LT
}

ENTRY %main (e: s32[], f: f32[100,4], g: f32[8,4]) -> f32[8,4] {
  %e = s32[]{:S(2)} parameter(0)
  %f = f32[100,4]{1,0} parameter(1)
  %g = f32[8,4]{1,0} parameter(2)
  %h = f32[100,4]{1,0} copy(%f)
  %all = (s32[]{:S(2)}, f32[100,4]{1,0}, f32[8,4]{1,0}) tuple(%e, %h, %g)
  %s = (s32[], f32[8,4]{1,0}) while(%all), condition=%out_until, body=%out_body
  ROOT %z = f32[8,4]{1,0} get-tuple-element(%s), index=2
}
"""


def test_a_step_counts_its_inner_loop_and_nothing_around_it():
  found = hlo.work(MODULE, per_step=True)
  # Read: eight rows of the table. Written: the copy of as many.
  assert found.bytes == 2 * 8 * 4 * 4
  assert found.collectives == (Collective("all-reduce", 8 * 4 * 4, 5),)


def test_a_call_counts_what_is_outside_the_loop_too():
  assert hlo.work(MODULE).bytes == 2 * 8 * 4 * 4 + 2 * 100 * 4 * 4


def test_a_program_without_a_loop_has_no_steps():
  module = MODULE.replace("%j, %j", "%j, %k").replace(
    "  ROOT %more", "  %k = s32[]{:S(2)} constant(7)\n  ROOT %more"
  )
  with pytest.raises(ValueError, match="number of iterations"):
    hlo.work(module, per_step=True)
  assert hlo.work(module).collectives[0].times == 35


def test_a_step_waits_for_the_slower_of_products_and_memory_then_for_the_links():
  chip = chips.Chip(flops=100.0, memory_bytes=1, memory_speed=10.0, link_speed=5.0)
  work = Work(20, (Collective("all-reduce", 10, 3),))
  found = chips.roofline(chip, 100.0, work, (2, 4))
  assert found[:2] == (1.0, 2.0)
  # 30 bytes through a ring of 8; in each of three messages 2 x (1 + 3) hops.
  assert found.links == pytest.approx(2 * 7 / 8 * 30 / 5)
  assert found.latency == pytest.approx(24 * chips.HOP_SECONDS)
  assert found.step == pytest.approx(2.0 + found.links + found.latency)
  assert chips.roofline(chip, 100.0, Work(20, ()), (1,)).collectives == 0


def test_enough_images_make_waiting_a_fifth_of_the_step():
  seconds = {"compute": 1.0, "memory": 0.5, "links": 2.0, "latency": 6.0}
  enough = compile_for.enough_images({"estimated_seconds": seconds}, batch_size=10)
  assert enough == 320  # 32 seconds of work to 8 of waiting.


@pytest.mark.parametrize("topology", ["v5e", "v5e:2", "v99:2x2", "v5e:0x2", "v5e:axb"])
def test_a_topology_that_is_none_is_named(topology):
  if topology == "v5e:2":
    assert compile_for.parse_topology(topology) == ("v5e", (2,))
    return
  with pytest.raises(UserError, match=topology):
    compile_for.parse_topology(topology)


def test_what_is_in_the_file_is_not_compiled_again(tmp_path, monkeypatch):
  asked = []

  def measure(config, topology, *, single):
    asked.append((config, topology, single))
    if topology == "v5e:8x8":
      raise KeyboardInterrupt
    return [{"chips": 1 if single else 8}]

  monkeypatch.setattr(compile_for, "measure", measure)
  monkeypatch.setattr(compile_for.abstract_runs, "read_config", lambda name: name)
  monkeypatch.setattr(jax.config, "update", lambda *_: None)
  values = types.SimpleNamespace(
    config=["mnist"], topology=["v5e:2x4", "v5e:8x8"], json=str(tmp_path / "rows.json")
  )
  places = [("mnist", "v5e:2x4", True), ("mnist", "v5e:2x4", False)]
  for missing in (places, []):
    with pytest.raises(KeyboardInterrupt):
      compile_for._compile_all(values)
    assert asked == [*missing, ("mnist", "v5e:8x8", False)]
    asked.clear()
  rows = json.loads((tmp_path / "rows.json").read_text())["mnist"]
  assert [row["chips"] for row in rows] == [1, 8]
  # A chip by itself is the same in every topology of its kind.
  values.topology = ["v5e:8x8"]
  with pytest.raises(KeyboardInterrupt):
    compile_for._compile_all(values)
  assert asked == [("mnist", "v5e:8x8", False)]
  asked.clear()
  values.topology = ["h100:8", "v5e:8x8"]
  with pytest.raises(KeyboardInterrupt):
    compile_for._compile_all(values)
  assert asked[0] == ("mnist", "h100:8", True)


def test_a_program_that_does_not_fit_is_a_row(monkeypatch):
  def work(message):
    def compile():
      raise jax.errors.JaxRuntimeError(message)

    lowered = types.SimpleNamespace(compile=compile)
    return types.SimpleNamespace(name="n", unit="u", lower=lambda: lowered)

  monkeypatch.setattr(compile_for, "SingleDeviceSharding", lambda chip: chip)
  row = compile_for._row(
    "v5e", (1,), None, lambda *_: work("RESOURCE_EXHAUSTED: 74G of 15G\nmore"), [0]
  )
  assert row["does_not_fit"] == "RESOURCE_EXHAUSTED: 74G of 15G"
  cells = compile_for._cells("unet", row)
  assert cells[:5] == ["unet", "n", "u", 1, "does not fit"]
  assert len(cells) == len(compile_for._HEADERS)
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
    compile_for._row("v5e", (1,), None, lambda *_: work("INTERNAL: other"), [0])


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu is not installed (pip install '.[tpu]')",
)
def test_training_compiles_for_a_tpu(tmp_path):
  file = tmp_path / "numbers.json"
  command = [sys.executable, "-m", "benchmarks.compile_for", "--topology=v5e:2x2"]
  done = subprocess.run(
    [*command, "--config=digits", f"--json={file}"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  rows = json.loads(file.read_text())["digits"]
  assert [(row["program"], row["chips"]) for row in rows] == [
    ("training", 1),
    ("sampling", 1),
    ("bound", 1),
    ("annealing", 1),
    ("training", 4),
  ]
  alone, *_, shared = rows
  assert not alone["collectives"]
  # At most six messages in each of the chain's ten steps, and a few in all.
  assert 10 < sum(c["times"] for c in shared["collectives"]) <= 10 * 6 + 5
  assert all(0 < row["share_of_memory"] < 1 for row in rows)
