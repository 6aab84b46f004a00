#!/usr/bin/env bash
# Training on several machines of a SLURM cluster, one process a GPU. An example: the
# account, the partition and the paths are yours.
#
#   sbatch scripts/train_slurm.sh --config=configs/mnist.py --workdir=runs/mnist
#
# All arguments go to experiments.train. The workdir must be a folder that all machines
# see; so must the data, or a copy of it must lie at the same path on each of them.
#
# Shortly before the time limit SLURM sends SIGTERM to the processes; they save the
# state, end with exit code 75, and the job is queued again: it goes on where it was,
# also on another number of GPUs. So it does after the loss of a machine, from the last
# checkpoint. The number of GPUs must divide the batch (see --num_devices).
#
# Settings, from the environment:
#   PYTHON  interpreter of the environment (default: .venv/bin/python)
#SBATCH --job-name=infusion
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=infusion-%j.log
set -euo pipefail

readonly again=75
python=${PYTHON:-.venv/bin/python}

[ -n "${SLURM_JOB_ID:-}" ] || {
  echo "error: this is a job for sbatch: sbatch $0 --config=FILE --workdir=DIR" >&2
  exit 2
}
[ -x "$python" ] || {
  echo "error: PYTHON is $python; the interpreter of the environment is wanted" >&2
  exit 2
}

# --distributed finds the other processes in SLURM's variables. Processes end together;
# where one has failed, --wait ends the others.
code=0
srun --wait=300 --unbuffered \
  "$python" -m experiments.train --distributed --noprogress "$@" || code=$?
if [ "$code" -eq "$again" ]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$code"
