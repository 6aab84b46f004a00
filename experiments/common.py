"""What all launchers share: flags, errors, exit codes."""

import dataclasses
import difflib
import functools
import pathlib
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from absl import app, flags, logging

from experiments import process
from infusion_jax.config import Config
from infusion_jax.errors import UserError
from infusion_jax.networks import user_code

#: Configuration files that come with the launchers; `--config` takes their names.
_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"

_CODE = (
  "Python files of your own that are run first: networks that a checkpoint names"
  " (FILE.py:Class), metrics. A file that a checkpoint names is run only so."
)


def run(main: Callable[[list[str]], None]) -> None:
  """Parses the flags and runs `main`; a user's mistake ends with one sentence.

  Exit codes: 0 success, 2 a mistake in a flag, config, file or checkpoint,
  75 stopped by a signal with everything saved, 130 by Ctrl-C while there was nothing
  to save (143 by SIGTERM).
  """
  logging.set_verbosity(logging.WARNING)
  if "code" not in flags.FLAGS:
    flags.DEFINE_list("code", [], _CODE)
  app.run(_guarded(main), flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; whatever is wrong with them is told in one sentence."""
  if {"-h", "--help", "-help"} & set(argv[1:]):
    _help(argv)
  try:
    rest = flags.FLAGS([_with_config_file(argument) for argument in argv])
  # A configuration file is the user's program, which may raise anything.
  except Exception as error:
    _fail(_sentence(error, argv))
  if len(rest) > 1:
    _fail(f"unexpected argument {rest[1]!r}; values are given as --flag=value")
  return rest


def _help(argv: list[str]) -> None:
  """Prints what the launcher does, its flags and the keys of a configuration."""
  app.usage(shorthelp=True, writeto_stdout=True)
  # This module defines the dataclasses' flags, so the short help would omit them.
  if __name__ in flags.FLAGS.flags_by_module_dict():
    print(flags.FLAGS.module_help(__name__).partition("\n")[2])
  if "config" in flags.FLAGS:
    launcher = pathlib.Path(argv[0]).name
    nested = any(name in launcher for name in ("sweep", "compare"))
    base = "config.base" if nested else "config"
    print(f"\nConfiguration keys, as in --{base}.train.num_epochs=10:\n")
    for section in dataclasses.fields(Config):
      told = _attribute_help(section.type.__doc__ or "")
      for field in dataclasses.fields(section.type):
        text = f"  {section.name}.{field.name}: {told[field.name]}"
        print(textwrap.fill(text, 80, subsequent_indent="    "))
        print(f"    (default: {field.default!r})")
  sys.exit(0)


def _with_config_file(argument: str) -> str:
  """`--config=digits:smoke` as `--config=.../configs/digits.py:smoke`."""
  flag, _, value = argument.partition("=")
  name, colon, variant = value.partition(":")
  place = _CONFIGS / f"{name}.py"
  if flag.lstrip("-") != "config" or not name or name.endswith(".py"):
    return argument
  if not place.exists() and not pathlib.Path(name).exists():
    known = {name: name for name in _known_configs()}
    raise UserError(
      f"--config is {name!r}, which is no file{_near(name, known)}; configurations"
      f" that go by their name are {', '.join(known)}"
    )
  return f"{flag}={place}{colon}{variant}" if place.exists() else argument


def _known_configs() -> list[str]:
  files = (path.relative_to(_CONFIGS) for path in _CONFIGS.rglob("[!_]*.py"))
  return sorted(str(file.with_suffix("")) for file in files if file.stem != "base")


def _near(name: str, allowed: Mapping[str, str]) -> str:
  """Tells what may be meant, by names; empty where none is near."""
  found = difflib.get_close_matches(name, allowed, 1)
  return f" (did you mean {allowed[found[0]]!r}?)" if found else ""


def _sentence(error: Exception, argv: list[str]) -> str:
  """An error's message in one line, without a traceback that it may quote."""
  text, _, trace = str(error).partition("Traceback (most recent call last)")
  if trace:
    text = f"{text.strip()} {trace.strip().splitlines()[-1]}"
  if place := _place_in_config(error, argv):
    text = f"--config cannot be loaded: {type(error).__name__}: {text} ({place})"
  elif "get_config" in text:
    text = f"--config cannot be loaded: {text}; it must have a function get_config"
  elif isinstance(error, (AttributeError, KeyError)):
    text = _missing_key(error)
  elif not isinstance(error, (flags.Error, UserError)):
    text = f"--config cannot be loaded: {text}"
  for pattern, plain in _PLAINLY:
    text = re.sub(pattern, plain, text)
  return " ".join(text.split())


def _missing_key(error: AttributeError | KeyError) -> str:
  """Which key an override names in vain, and which one it may mean."""
  # An AttributeError of ml_collections holds a KeyError, which begins with the key.
  inner = error.args[0] if error.args else ""
  text = str(inner.args[0] if isinstance(inner, KeyError) else inner)
  key = text.partition("\n")[0].strip("'\"")
  sections = dataclasses.fields(Config)
  places = {section.name: section.name for section in sections} | {
    field.name: f"{section.name}.{field.name}"
    for section in sections
    for field in dataclasses.fields(section.type)
  }
  return (
    f"a --config override names the key {key!r}, which the file does not have"
    + _near(key, places)
  )


# Maps what Python and absl say to what a person wants to know.
_PLAINLY = (
  (r"\('Non-boolean argument to boolean flag', .*\)", "allowed are true and false"),
  (r"invalid literal for int\(\).*", "allowed are whole numbers"),
  (r"could not convert string to float.*", "allowed are numbers"),
  (r"Error whilst parsing config file: ", ""),
  (r"TypeError: get_config\(\) takes 0 .*", "this file has no variants"),
  (r"infusion_jax\.errors\.UserError: ", ""),
)


def _place_in_config(error: Exception, argv: list[str]) -> str:
  """File and line of a configuration file that an error came from, if it did."""
  if isinstance(error, UserError):
    return ""
  values = (argument.partition("=")[2].partition(":")[0] for argument in argv)
  named = {str(pathlib.Path(value).resolve()) for value in values if value}
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    if str(pathlib.Path(frame.filename).resolve()) in named:
      return f"{frame.filename}, line {frame.lineno}"
  return ""


def config_values(config: flags.FlagHolder) -> dict[str, Any]:
  """The values of a configuration flag, as nested dictionaries.

  Raises:
    UserError: the file cannot be loaded, or describes something else.
  """
  try:
    return config.value.to_dict()
  except OSError as error:
    reason = str(error).strip().splitlines()[-1].strip()
    reason = reason.rpartition("earlier failure to load: ")[2]
    raise UserError(f"--config cannot be loaded: {reason}") from error
  except AttributeError as error:
    raise UserError(
      f"--config gives {config.value!r}; its get_config must return a ConfigDict"
    ) from error


def _guarded(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
  def guarded(argv: list[str]) -> None:
    try:
      with process.interruptible():
        for file in flags.FLAGS["code"].value:
          user_code.run(file)
        main(argv)
    except UserError as error:
      _fail(str(error))
    except KeyboardInterrupt:
      print("interrupted", file=sys.stderr)
      sys.exit(process.AT_ONCE + signal.SIGINT)

  return guarded


def _fail(message: str) -> None:
  print(f"error: {message}", file=sys.stderr)
  sys.exit(2)


def needs(*names: str) -> Callable[[Callable], Callable]:
  """Flags that a launcher cannot run without, and that must not be empty.

  Returns:
    A decorator of the launcher's `main`.
  """

  def decorate(main: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
    @functools.wraps(main)
    def checked(argv: list[str]) -> None:
      for name in names:
        flag = flags.FLAGS[name]
        if flag.value in (None, ""):
          told = "missing" if flag.value is None else "empty"
          raise UserError(f"--{name} is {told}; it is needed: {flag.help}")
      main(argv)

    return checked

  return decorate


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


def scale_flag() -> flags.FlagHolder:
  """Defines --scale, of launchers that draw pictures."""
  return flags.DEFINE_integer(
    "scale",
    None,
    "Screen pixels a pixel of a picture; by default, images have 64 or a little more.",
    lower_bound=1,
    upper_bound=64,
  )


def check_scale(scale: int | None, out: str, drawn: tuple[str, ...]) -> None:
  """Raises UserError for a scale where `out` has none of the endings of pictures."""
  if scale and not out.lower().endswith(drawn):
    raise UserError(
      f"--scale is {scale}; it is for a {' or '.join(drawn)}, not {out!r}"
    )


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
