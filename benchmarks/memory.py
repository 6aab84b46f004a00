"""Peak memory of one kind of work, in a process of its own.

  python -m benchmarks.memory --work=importance --size=2000

prints one JSON object. `benchmarks.run` starts it once for every contestant.
"""

import json
import pathlib
import resource
import sys

from absl import app, flags

_WORKS = ("nothing", "train", "peer", "peer_compiled", "importance")
_WORK = flags.DEFINE_enum("work", None, _WORKS, "What to do.")
_SIZE = flags.DEFINE_integer(
  "size", 128, "Batch size (train, peers) or chains an image (importance)."
)
_HIDDEN = flags.DEFINE_integer("hidden", 1200, "Units of the two hidden layers.")


def peak() -> int:
  """Largest resident memory of this process so far, bytes."""
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    # getrusage would also count the memory of the process that started this one.
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _work(name: str, number: int, hidden: tuple[int, int]) -> None:
  from benchmarks import workloads

  if name.startswith("peer"):
    from benchmarks import peers

    size = workloads.Size(batch_size=number, hidden=hidden)
    peers.train(size, compiled=name == "peer_compiled")()
    return
  if name == "train":
    workloads.Ours(workloads.Size(batch_size=number, hidden=hidden)).train(4)
    return
  ours = workloads.Ours(workloads.Size(hidden=hidden, num_steps=5))
  if name == "importance":
    ours.estimate(num_images=16, num_chains=number)


def main(argv: list[str]) -> None:
  """Does the work and prints the peak."""
  del argv
  _work(_WORK.value, _SIZE.value, (_HIDDEN.value, _HIDDEN.value))
  print(json.dumps({"work": _WORK.value, "size": _SIZE.value, "peak_bytes": peak()}))


if __name__ == "__main__":
  flags.mark_flag_as_required("work")
  app.run(main)
