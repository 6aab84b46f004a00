"""What all launchers share: flags, errors, exit codes."""

import sys
from collections.abc import Callable

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
  """Absl's parser, with errors of config overrides told like the others."""
  try:
    rest = app.parse_flags_with_usage(argv)
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
    SyntaxError,
  ) as error:
    _fail(" ".join(str(error).split()))
  if len(rest) > 1:
    _fail(f"unexpected argument {rest[1]!r}; values are given as --flag=value")
  return rest


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
