"""What a compiled program does, read from its text: bytes moved and collectives.

XLA's own cost analysis counts the body of a loop once and adds up traffic with all
kinds of memory. Here bodies count as often as they run, and only what moves between
a chip and its main memory (memory space 0 of the text) counts as traffic.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

#: Bits of an element of those types whose name does not say it.
_BITS = {"pred": 8}
_SHAPE = re.compile(r"(pred|[a-z]+[0-9]+)\[([0-9,]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"(?:ENTRY )?%(\S+) \(.*\{$")
_NAME = re.compile(r"\s+(?:ROOT )?%(\S+) = ")
_OPERAND = re.compile(r"%([\w.-]+)")
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
#: Operations that name, group or wait for data move none.
_FREE = (
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "call",
  "conditional",
  "after-all",
  "partition-id",
  "replica-id",
)
_SLICING = ("slice", "dynamic-slice", "gather")
#: Copies beside other work: which of the arrays of their types are target and source.
_ASYNCHRONOUS = {"copy-start": (0, 1), "slice-start": (1, 0)}


class Shape(NamedTuple):
  """One array of an instruction's type.

  Attributes:
    bytes: of its elements, without padding.
    main: whether it lies in main memory.
  """

  bytes: int
  main: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a computation.

  Attributes:
    name: without the per cent sign.
    opcode: what it does.
    shapes: of its result, one for an array.
    operands: names.
    text: the rest of the line.
    root: whether it is the computation's result.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  text: str
  root: bool

  def called(self, kind: str) -> str | None:
    """The computation that stands behind `kind=` in the line."""
    found = re.search(rf"\b{kind}=%([\w.-]+)", self.text)
    return found and found[1]


Computation = dict[str, Instruction]


class Collective(NamedTuple):
  """A kind of collective operation.

  Attributes:
    opcode: its name.
    bytes: of its arrays on one chip.
    times: how often it runs in a unit of work.
  """

  opcode: str
  bytes: int
  times: int


class Work(NamedTuple):
  """What one chip does in a unit of work.

  Attributes:
    bytes: between the chip and its main memory.
    collectives: one entry for each size of each kind.
  """

  bytes: int
  collectives: tuple[Collective, ...]


def work(text: str, *, per_step: bool = False) -> Work:
  """Adds up a compiled program.

  Args:
    text: of the optimized module (`compiled.as_text()`).
    per_step: count one iteration of the loop whose number of iterations is an
      argument of the program, and nothing outside it.

  Returns:
    The work of one call, or of one step.

  Raises:
    ValueError: there is no such loop.
  """
  computations, entry = parse(text)
  start = _open_loop(computations, entry) if per_step else entry
  total, counts = 0, collections.Counter()
  for computation, instruction, times in _executed(computations, start, 1):
    total += times * _traffic(computations, computation, instruction)
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in _COLLECTIVES:
      counts[opcode, _sent(instruction)] += times
  rows = (Collective(*key, times) for key, times in sorted(counts.items()))
  return Work(total, tuple(rows))


def _sent(collective: Instruction) -> int:
  """Bytes of a collective's result."""
  shapes = collective.shapes
  if collective.opcode.endswith("-start") and "reduce" not in collective.opcode:
    # The type of an asynchronous one names its operands first.
    shapes = shapes[len(collective.operands) :][: len(collective.operands)]
  return sum(shape.bytes for shape in shapes)


def parse(text: str) -> tuple[dict[str, Computation], str]:
  """The computations of a module by name, and the name of the entry."""
  computations: dict[str, Computation] = {}
  entry, current = "", {}
  for line in text.splitlines():
    if header := _HEADER.match(line):
      current = computations[header[1]] = {}
      entry = header[1] if line.startswith("ENTRY") else entry
    elif found := _NAME.match(line):
      instruction = _instruction(found[1], line[found.end() :], "ROOT %" in line)
      current[instruction.name] = instruction
  return computations, entry


def _instruction(name: str, line: str, root: bool) -> Instruction:
  end = _closing(line) + 1 if line.startswith("(") else line.index(" ")
  opcode, _, rest = line[end:].strip().partition("(")
  inside = rest[: _closing("(" + rest) - 1]
  operands = tuple(_OPERAND.findall(inside))
  return Instruction(name, opcode, _shapes(line[:end]), operands, rest, root)


def _closing(text: str) -> int:
  """Where the parenthesis that opens a text is closed."""
  depth = 0
  for index, character in enumerate(text):
    depth += (character == "(") - (character == ")")
    if not depth:
      return index
  return len(text)


def _shapes(text: str) -> tuple[Shape, ...]:
  return tuple(
    Shape(_bytes(kind, sizes), not re.search(r"S\([1-9]", layout or ""))
    for kind, sizes, layout in _SHAPE.findall(text)
  )


def _bytes(kind: str, sizes: str) -> int:
  bits = _BITS.get(kind) or int(re.search(r"\d+", kind)[0])
  return math.prod(map(int, filter(None, sizes.split(",")))) * bits // 8


def _executed(
  computations: dict[str, Computation], name: str, times: int
) -> Iterator[tuple[Computation, Instruction, int]]:
  """Every instruction outside of fusions, and how often it runs."""
  computation = computations[name]
  for instruction in computation.values():
    yield computation, instruction, times
    if instruction.opcode == "while":
      often = times * (_trips(computations, instruction) or 1)
      yield from _executed(computations, instruction.called("body"), often)
    elif instruction.opcode == "call":
      yield from _executed(computations, instruction.called("to_apply"), times)


def _trips(computations: dict[str, Computation], loop: Instruction) -> int | None:
  """Iterations of a loop that counts up to a constant; None for another one."""
  if told := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.text):
    return int(told[1])
  condition = computations[loop.called("condition")]
  found = [
    re.match(r"(\d+)\)", instruction.text)
    for instruction in condition.values()
    if instruction.opcode == "constant"
  ]
  return int(found[0][1]) if len(found) == 1 and found[0] else None


def _open_loop(computations: dict[str, Computation], entry: str) -> str:
  for instruction in computations[entry].values():
    if instruction.opcode == "while" and not _trips(computations, instruction):
      return instruction.called("body")
  raise ValueError("no loop of this program has a number of iterations from outside")


def _traffic(
  computations: dict[str, Computation],
  computation: Computation,
  instruction: Instruction,
) -> int:
  """Bytes that one instruction reads from and writes to main memory."""
  opcode = instruction.opcode
  if opcode in _FREE or opcode.endswith("-done"):
    return 0
  if opcode in _ASYNCHRONOUS:
    target, source = (instruction.shapes[index] for index in _ASYNCHRONOUS[opcode])
    return target.bytes * (target.main + source.main)
  inner = computations.get(instruction.called("calls") or "", {})
  read = sum(
    _read(computation.get(name), inner, index, instruction)
    for index, name in enumerate(instruction.operands)
  )
  return read + _written(inner, instruction, computation)


def _read(
  operand: Instruction | None, inner: Computation, index: int, reader: Instruction
) -> int:
  """Bytes of an operand, or of the parts of it that are taken."""
  if operand is None or len(operand.shapes) != 1 or not operand.shapes[0].main:
    return 0
  whole = operand.shapes[0].bytes
  users = _users(inner, index) if inner else [(reader, index)]
  if users and all(_takes_part(user, place) for user, place in users):
    taken = sum(_part(inner, user) for user, _ in users)
    return min(whole, taken)
  return whole


def _users(inner: Computation, index: int) -> list[tuple[Instruction, int]]:
  """Who uses a parameter of a fusion, and as which operand."""
  parameter = next(
    (
      i.name
      for i in inner.values()
      if i.opcode == "parameter" and i.text.startswith(f"{index})")
    ),
    None,
  )
  return [
    (user, user.operands.index(parameter))
    for user in inner.values()
    if parameter in user.operands
  ]


def _takes_part(user: Instruction, place: int) -> bool:
  return place == 0 and user.opcode in (*_SLICING, "dynamic-update-slice")


def _part(inner: Computation, user: Instruction) -> int:
  """Bytes that a slice reads; an update in place reads nothing of what was there."""
  return user.shapes[0].bytes if user.opcode in _SLICING else 0


def _written(
  inner: Computation, instruction: Instruction, computation: Computation
) -> int:
  """Bytes of a result, or of the part of it that is new."""
  where = inner or computation
  root = next((i for i in inner.values() if i.root), instruction)
  sources = [where.get(name) for name in root.operands] if inner else []
  results = sources if root.opcode == "tuple" else [root]
  total = 0
  for shape, result in zip(instruction.shapes, results, strict=False):
    size = shape.bytes
    if result is not None and result.opcode == "dynamic-update-slice":
      update = where.get(result.operands[1])
      size = update.shapes[0].bytes if update else size
    total += size * shape.main
  return total
