"""Work on a list of jobs: one after another here, or on the machines of Ray.

Ray is an optional extra, imported when it is asked for.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from infusion_jax.errors import UserError

Work = Callable[[Any], Any]


class Done(NamedTuple):
  """A job that has ended.

  Attributes:
    index: its place in the list.
    result: what `work` returned; None if it failed.
    error: what it failed with, after all attempts, or None.
  """

  index: int
  result: Any
  error: Exception | None = None


@dataclasses.dataclass(frozen=True)
class Ray:
  """How jobs run on Ray.

  Attributes:
    ray_address: of a cluster, "auto" for the one this machine is in; empty: Ray is
      started on this machine alone.
    ray_cpus: CPUs a job needs.
    ray_gpus: GPUs a job needs.
    ray_retries: how often a job that failed is tried again.
  """

  ray_address: str = ""
  ray_cpus: float = 1.0
  ray_gpus: float = 0.0
  ray_retries: int = 2

  def __post_init__(self) -> None:
    for name in ("ray_cpus", "ray_gpus", "ray_retries"):
      if getattr(self, name) < 0:
        raise UserError(f"{name} is {getattr(self, name)}; it must be at least 0")


def here(
  work: Work, jobs: Sequence[Any], *, asked: Callable[[], bool] = lambda: False
) -> Iterator[Done]:
  """Does one job after another; an error of one ends the iteration.

  Args:
    work: maps a job to its result.
    jobs: the jobs.
    asked: whether to stop, looked at before every job.

  Yields:
    The jobs in order.
  """
  for index, job in enumerate(jobs):
    if asked():
      return
    yield Done(index, work(job))


@contextlib.contextmanager
def connected(options: Ray, **init: Any) -> Iterator[None]:
  """Connects to Ray, or starts it; shuts down what it started.

  Ray handles signals in its own way from here on, so handlers of one's own
  (`signals.asking`) belong inside.

  Args:
    options: see `Ray`.
    **init: more arguments of `ray.init`.

  Raises:
    UserError: Ray is not installed, or there is none at the address.
  """
  ray = _ray()
  if ray.is_initialized():
    yield
    return
  try:
    ray.init(address=options.ray_address or "local", log_to_driver=False, **init)
  except ConnectionError as error:
    raise UserError(
      f"ray_address is {options.ray_address!r}; no Ray can be reached there"
    ) from error
  try:
    yield
  finally:
    ray.shutdown()


def on_ray(
  work: Work,
  jobs: Sequence[Any],
  options: Ray = Ray(),
  *,
  asked: Callable[[], bool] = lambda: False,
  say: Callable[[str], None] = print,
) -> Iterator[Done]:
  """Does jobs on the machines of Ray, as many at a time as there is room for.

  A job that fails, or whose machine is lost, is tried again, unless it failed
  with a `UserError`, which another attempt would meet too. When asked to stop,
  all jobs are interrupted as by Control-C, and waited for.

  Args:
    work: a function of a module that the workers can import.
    jobs: its arguments, one each.
    options: see `Ray`.
    asked: whether to stop, looked at every second.
    say: told of attempts that failed.

  Yields:
    Jobs as they end, in any order, failed ones included.

  Raises:
    UserError: Ray is not installed.
  """
  ray = _ray()
  remote = ray.remote(work).options(
    num_cpus=options.ray_cpus, num_gpus=options.ray_gpus, max_retries=0
  )
  waiting = {remote.remote(job): (index, 0) for index, job in enumerate(jobs)}
  stopping = False
  while waiting:
    if asked() and not stopping:
      stopping = True
      for reference in waiting:
        ray.cancel(reference)
    ready, _ = ray.wait(list(waiting), timeout=1.0)
    for reference in ready:
      index, failures = waiting.pop(reference)
      done = _outcome(ray, reference, index)
      again = failures < options.ray_retries and not stopping
      if done.error is None or isinstance(done.error, UserError) or not again:
        yield done
        continue
      say(f"job {index + 1} failed ({_last_line(done.error)}); it is tried again")
      waiting[remote.remote(jobs[index])] = (index, failures + 1)


def _ray() -> Any:
  try:
    import ray
  except ImportError as error:
    raise UserError(
      "engine is 'ray', but Ray is not installed; pip install -e '.[ray]'"
    ) from error
  return ray


def _outcome(ray: Any, reference: Any, index: int) -> Done:
  try:
    return Done(index, ray.get(reference))
  except Exception as error:  # The job raised an error, or its machine was lost.
    return Done(index, None, error)


def _last_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or [""]
  return f"{type(error).__name__}: {lines[-1][:200]}"
