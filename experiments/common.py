"""What all launchers share: flags, errors, exit codes."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from infusion_jax.errors import UserError


def run(main: Callable[[list[str]], None]) -> None:
  """Parses the flags and runs `main`; a user's mistake ends with one sentence.

  Exit codes: 0 success, 2 a mistake in a flag, config, file or checkpoint,
  75 stopped by a signal with everything saved.
  """
  logging.set_verbosity(logging.WARNING)
  app.run(_guarded(main), flags_parser=_parse_flags)


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; whatever is wrong with them is told in one sentence."""
  try:
    rest = flags.FLAGS(argv)
  except (
    flags.Error,
    AttributeError,
    KeyError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
  ) as error:
    _fail(_sentence(error))
  if len(rest) > 1:
    _fail(f"unexpected argument {rest[1]!r}; values are given as --flag=value")
  return rest


def _sentence(error: Exception) -> str:
  """An error's message in one line, without a traceback that it may quote."""
  text, _, trace = str(error).partition("Traceback (most recent call last)")
  if trace:
    text = f"{text.strip()} {trace.strip().splitlines()[-1]}"
  if isinstance(error, (AttributeError, KeyError)):
    text = f"a --config override names the key {text}, which the file does not have"
  return " ".join(text.split())


def config_values(config: flags.FlagHolder) -> dict[str, Any]:
  """The values of a configuration flag, as nested dictionaries.

  Raises:
    UserError: the file cannot be loaded.
  """
  try:
    return config.value.to_dict()
  except OSError as error:
    reason = str(error).strip().splitlines()[-1].strip()
    raise UserError(f"--config cannot be loaded: {reason}") from error


def _guarded(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
  def guarded(argv: list[str]) -> None:
    try:
      main(argv)
    except UserError as error:
      _fail(str(error))

  return guarded


def _fail(message: str) -> None:
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)


def required(*names: str) -> None:
  """Marks flags without which the launcher cannot run."""
  for name in names:
    flags.mark_flag_as_required(name)


def dataclass_flags(cls: type) -> Callable[[], Any]:
  """Defines one flag per field of a dataclass; its docstring is their help.

  Returns:
    A function that builds the dataclass from the flags' values.
  """
  told = _attribute_help(cls.__doc__ or "")
  define = {
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    str: flags.DEFINE_string,
  }
  holders = {
    field.name: define[field.type](field.name, field.default, told[field.name])
    for field in dataclasses.fields(cls)
  }
  return lambda: cls(**{name: holder.value for name, holder in holders.items()})


def _attribute_help(docstring: str) -> dict[str, str]:
  """The descriptions under "Attributes:", by name."""
  lines = docstring.partition("Attributes:")[2].splitlines()
  found: dict[str, str] = {}
  name = ""
  for line in filter(str.strip, lines):
    indent = len(line) - len(line.lstrip())
    head, colon, text = line.strip().partition(":")
    if indent == 4 and colon:
      name, line = head, text
    found[name] = f"{found.get(name, '')} {line.strip()}".strip()
  return found
