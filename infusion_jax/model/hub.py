"""Models on the Hugging Face Hub: one safetensors file in a repository.

Only this module knows the package huggingface_hub, an optional extra.
"""

import pathlib
import re
import textwrap
from typing import Any

from infusion_jax.errors import UserError
from infusion_jax.storage.files import StrPath

#: The file of a repository that holds the model.
FILE = "model.safetensors"

_SCHEME = "hf://"
_NAME = r"[\w.-]+/[\w.-]+"


def is_address(path: StrPath) -> bool:
  """Whether a path is the address of a repository, "hf://owner/name"."""
  return str(path).startswith(_SCHEME)


def fetched(address: str) -> pathlib.Path:
  """The file of a repository, in the hub's cache on this machine.

  Args:
    address: "hf://owner/name" or "hf://owner/name@revision".

  Raises:
    UserError: huggingface_hub is missing, the address is none, or there is no such
      file that can be reached.
  """
  parts = re.fullmatch(rf"{_SCHEME}({_NAME})(?:@([\w.-]+))?", address)
  if not parts:
    raise UserError(f"{address!r} is no address; allowed is hf://owner/name[@revision]")
  repository, revision = parts.groups()
  library = _library()
  try:
    return pathlib.Path(library.hf_hub_download(repository, FILE, revision=revision))
  except (
    Exception
  ) as error:  # The network, the hub and its cache raise many kinds of errors.
    raise UserError(
      f"{address} has no {FILE} that can be fetched ({_short(error)})"
    ) from error


def pushed(folder: StrPath, repository: str) -> str:
  """Uploads the files of a folder; the repository is made if it is not there.

  Returns:
    The address for `fetched`.

  Raises:
    UserError: huggingface_hub is missing, or the hub refuses.
  """
  check_name(repository)
  api = _library().HfApi()
  try:
    api.create_repo(repository, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder)
  except Exception as error:  # The network and the hub raise many kinds of errors.
    raise UserError(
      f"{repository!r} cannot be uploaded to the Hugging Face Hub ({_short(error)})"
    ) from error
  return f"{_SCHEME}{repository}"


def check_name(repository: str) -> None:
  """Raises UserError for what cannot be the name of a repository."""
  if not re.fullmatch(_NAME, repository):
    raise UserError(f"repository is {repository!r}; allowed are names like owner/name")


def card(told: str, repository: str) -> str:
  """The page of a repository: what the model is, and the lines that load it."""
  return f"""---
library_name: infusion_jax
tags: [infusion-training, jax, unconditional-image-generation]
---

# {repository.partition("/")[2]}

{told}

```python
import infusion_jax, jax

model = infusion_jax.load("{_SCHEME}{repository}")
images = model.sample(jax.random.key(0), 64)
```

The file holds numbers and its configuration alone; loading it runs nothing in it.
"""


def _library() -> Any:
  try:
    import huggingface_hub
  except ImportError as error:
    raise UserError(
      "hf:// needs the package huggingface_hub, which is not installed;"
      " pip install 'infusion_jax[hub]' or pip install huggingface_hub brings it"
    ) from error
  return huggingface_hub


def _short(error: Exception) -> str:
  return textwrap.shorten(f"{type(error).__name__}: {error}", 160, placeholder=" ...")
