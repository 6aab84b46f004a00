"""Errors a user can cause and mend."""


class UserError(ValueError):
  """A mistake in a flag, a config value, a file or an argument.

  The message is one sentence that names the thing, its value and what is
  allowed. Launchers print it without a traceback and exit with a non-zero
  code; from Python it is an ordinary `ValueError`.
  """
