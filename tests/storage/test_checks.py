"""Checks in JSON files: a flipped bit is told, never believed; nothing is lost."""

import contextlib
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infusion_jax.errors import UserError
from infusion_jax.evaluation.session import Parts
from infusion_jax.storage import files
from infusion_jax.training import metrics_log

ROWS = [
  {"step": 3, "epoch": 1, "split": "train", "loss": -1.25e-7, "bound": float("inf")},
  {"step": 6, "epoch": 2, "split": "validation", "bound": 101.25, "name": "ä"},
  {"step": 9, "epoch": 3, "split": "train", "values": [1, 2.5, None]},
]


def flipped(content: bytes, bit: int) -> bytes:
  changed = bytearray(content)
  changed[bit // 8] ^= 1 << bit % 8
  return bytes(changed)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
  path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
  for row in ROWS:
    files.append_json(path, row)
  return path, path.read_bytes()


def test_rows_come_back_without_their_checks(lines, tmp_path):
  assert files.read_json_lines(lines[0]) == ROWS
  files.write_json(tmp_path / "a.json", {"b": [1, 2], "c": {"d": 0.1}})
  assert files.read_json(tmp_path / "a.json") == {"b": [1, 2], "c": {"d": 0.1}}


def test_every_flipped_bit_of_lines_is_told_or_harmless(lines, tmp_path):
  path = tmp_path / "rows.jsonl"
  for bit in range(8 * len(lines[1])):
    path.write_bytes(flipped(lines[1], bit))
    found, damaged = files.intact_lines(path)
    assert all(row in ROWS for row in found)
    assert len(found) == len(ROWS) or damaged, bit


def test_every_flipped_bit_of_an_object_is_told_or_harmless(tmp_path):
  path, value = tmp_path / "a.json", {"format": 1, "runs": [{"rate": 0.25}]}
  files.write_json(path, value)
  content = path.read_bytes()
  for bit in range(8 * len(content)):
    path.write_bytes(flipped(content, bit))
    try:
      assert files.read_json(path) == value
    except UserError as error:
      assert str(path) in str(error)


@given(st.binary(max_size=60))
def test_no_content_ends_in_anything_but_a_sentence(tmp_path_factory, content):
  check_any_content(tmp_path_factory.mktemp("any") / "a.json", content)


def test_deep_brackets_end_in_a_sentence(tmp_path):
  check_any_content(tmp_path / "a.json", b"[" * 100_000)
  check_any_content(tmp_path / "a.json", b"[" * 100_000 + b"\n")


def check_any_content(path, content):
  path.write_bytes(content)
  files.intact_lines(path)
  with contextlib.suppress(UserError):
    assert isinstance(files.read_json(path), dict)


def test_a_damaged_line_is_named(lines, tmp_path, caplog):
  path = tmp_path / "rows.jsonl"
  path.write_bytes(lines[1].replace(b"101.25", b"101.35"))
  with caplog.at_level(logging.WARNING):
    assert files.read_json_lines(path) == [ROWS[0], ROWS[2]]
  assert f"{path}: line 2 is damaged" in caplog.text


@pytest.mark.parametrize("cut", [1, 20, 45])
def test_a_torn_line_makes_room_in_silence(lines, tmp_path, caplog, cut):
  path, row = tmp_path / "rows.jsonl", {"step": 12}
  last = lines[1].splitlines(keepends=True)[-1]
  path.write_bytes(lines[1][: -len(last)] + last[:cut])
  assert files.read_json_lines(path) == ROWS[:2]
  files.append_json(path, row)
  assert files.read_json_lines(path) == [*ROWS[:2], row] and not caplog.text


def test_lines_and_files_of_before_checks_are_read(tmp_path):
  path = tmp_path / "rows.jsonl"
  # The last line of older pieces of an evaluation had no end.
  path.write_text("\n".join(json.dumps(row) for row in ROWS))
  assert files.read_json_lines(path) == ROWS
  files.append_json(path, {"step": 12})
  assert files.read_json_lines(path) == [*ROWS, {"step": 12}]
  # A line without a check after one that has it has lost it.
  with path.open("a") as stream:
    stream.write('{"step": 15}\n')
  assert files.intact_lines(path) == ([*ROWS, {"step": 12}], [5])
  (tmp_path / "a.json").write_text('{"b": 1}')
  assert files.read_json(tmp_path / "a.json") == {"b": 1}


def test_resuming_keeps_a_damaged_metrics_file_aside(tmp_path, caplog):
  writer = metrics_log.MetricsWriter(tmp_path, 0)
  for step in (3, 6, 9):
    writer.write(step, step // 3, "train", {"loss": 0.5})
  writer.close()
  path = tmp_path / metrics_log.FILE
  damaged = path.read_bytes().replace(b'"step": 3', b'"step": 2')
  path.write_bytes(damaged)
  metrics_log.MetricsWriter(tmp_path, 6).close()
  assert [row["step"] for row in metrics_log.read(path)] == [6]
  assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == damaged
  assert "line 1 is damaged" in caplog.text


def test_pieces_of_an_evaluation_survive_a_flip(tmp_path):
  path = tmp_path / "evaluation_parts.jsonl"
  parts = Parts(path, "model")
  for number in range(2):
    parts.add("bound", {"first": number, "bound": [0.5]})
  content = path.read_bytes()
  for bit in range(0, 8 * len(content), 3):
    path.write_bytes(flipped(content, bit))
    found = Parts(path, "model").get("bound")
    assert all(row["bound"] == [0.5] and row["first"] in (0, 1) for row in found)
