"""Jobs one after another, and on Ray: here on a stand-in, once on Ray itself."""

import sys
import types

import pytest

from infusion_jax.errors import UserError
from infusion_jax.sweep import ray_jobs


class StandIn(types.ModuleType):
  """As much of Ray as `jobs` uses; jobs run when they are got."""

  def __init__(self):
    super().__init__("ray")
    self.cancelled, self.started, self.closed = [], False, False

  def is_initialized(self):
    return self.started

  def init(self, address, **options):
    if address == "nowhere":
      raise ConnectionError(address)
    self.started = True

  def shutdown(self):
    self.closed = True

  def remote(self, work):
    starter = types.SimpleNamespace(remote=lambda job: lambda: work(job))
    return types.SimpleNamespace(options=lambda **options: starter)

  def wait(self, references, timeout):
    return references[:1], references[1:]

  def cancel(self, reference):
    self.cancelled.append(reference)

  def get(self, reference):
    return reference()


@pytest.fixture
def ray(monkeypatch):
  module = StandIn()
  monkeypatch.setitem(sys.modules, "ray", module)
  return module


def failing(times, error=RuntimeError):
  left = {}

  def work(job):
    left.setdefault(job, times)
    left[job] -= 1
    if job == "bad" and left[job] >= 0:
      raise error("no luck")
    return job.upper()

  return work


def test_here_jobs_run_in_order():
  done = list(ray_jobs.here(str.upper, ["a", "b"]))
  assert done == [ray_jobs.Done(0, "A"), ray_jobs.Done(1, "B")]


def test_here_no_job_begins_after_one_was_asked_to_stop():
  answers = iter([False, True])
  done = list(ray_jobs.here(str.upper, ["a", "b"], asked=lambda: next(answers)))
  assert done == [ray_jobs.Done(0, "A")]


def test_failed_jobs_are_tried_again(ray):
  told = []
  done = list(ray_jobs.on_ray(failing(2), ["good", "bad"], say=told.append))
  assert sorted(done) == [ray_jobs.Done(0, "GOOD"), ray_jobs.Done(1, "BAD")]
  assert told == ["job 2 failed (RuntimeError: no luck); it is tried again"] * 2


def test_jobs_that_keep_failing_do_not_stop_the_others(ray):
  options = ray_jobs.Ray(ray_retries=1)
  done = list(
    ray_jobs.on_ray(failing(9), ["bad", "good"], options, say=lambda text: None)
  )
  results = {item.index: item for item in done}
  assert results[1].result == "GOOD"
  assert isinstance(results[0].error, RuntimeError)


def test_a_mistake_of_the_user_is_not_tried_again(ray):
  told = []
  done = list(ray_jobs.on_ray(failing(9, UserError), ["bad"], say=told.append))
  assert isinstance(done[0].error, UserError) and not told


def test_asked_to_stop_all_jobs_are_interrupted(ray):
  work = failing(9)
  done = list(ray_jobs.on_ray(work, ["bad", "good"], asked=lambda: True, say=print))
  assert len(ray.cancelled) == 2 and len(done) == 2


def test_a_ray_that_was_started_is_shut_down(ray):
  with ray_jobs.connected(ray_jobs.Ray()):
    assert ray.started and not ray.closed
  assert ray.closed


def test_a_ray_that_runs_already_is_not_shut_down(ray):
  ray.started = True
  with ray_jobs.connected(ray_jobs.Ray()):
    pass
  assert not ray.closed


def test_no_ray_at_the_address(ray):
  with (
    pytest.raises(UserError, match="'nowhere'; no Ray"),
    ray_jobs.connected(ray_jobs.Ray(ray_address="nowhere")),
  ):
    pass


def test_ray_that_is_not_installed(monkeypatch):
  monkeypatch.setitem(sys.modules, "ray", None)
  with (
    pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'"),
    ray_jobs.connected(ray_jobs.Ray()),
  ):
    pass


def test_wrong_options_are_refused():
  with pytest.raises(UserError, match="ray_retries is -1"):
    ray_jobs.Ray(ray_retries=-1)
