#!/usr/bin/env bash
# One step of the full reproduction on a GPU, of at most ten minutes. No network.
#
#   until scripts/reproduce_gpu.sh; do [ $? -eq 75 ] || break; done
#
# Exit code 75: stopped by the clock with everything kept, call again; 0: finished;
# anything else is an error. It trains the T = 15 model on MNIST, measures table 3.1
# at k = 20,000 and the Parzen estimate, then trains table A.1 as vmapped groups.
#
# It needs this checkout, the data folder and a folder of wheels, made where there is a
# network, for the same Python and platform, in the root of the checkout:
#
#   pip download --dest=../wheels setuptools wheel ".[cuda]"
#
# and leaves in PARCEL, a small folder to bring home: results/ and checkpoint/.
#
# Settings, from the environment:
#   INFUSION_JAX_DATA  data folder (default: ../data or ../shared/data)
#   WHEELS             folder of wheels (default: ../wheels)
#   EXTRA              extra to install (default: [cuda]; empty on a CPU)
#   VENV               environment, made if it is not there (default: .venv)
#   WORK               models in work (default: runs/reproduce)
#   PARCEL             what to bring home (default: runs/parcel)
#   TARGETS, SCALE     what to make (default: the MNIST tables and figures, full)
#   STEP_SECONDS       length of a step (default: 540)
set -euo pipefail

readonly again=75
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
data=${INFUSION_JAX_DATA:-$([ -d ../data ] && echo ../data || echo ../shared/data)}
wheels=${WHEELS:-../wheels}
venv=${VENV:-.venv}
work=${WORK:-runs/reproduce}
parcel=${PARCEL:-runs/parcel}
targets=${TARGETS:-table_3_1,figure_3_1,figure_3_3,figure_3_4,table_a1,figure_a_1}
scale=${SCALE:-full}
step=${STEP_SECONDS:-540}
python=$venv/bin/python

fail() {
  echo "error: $1" >&2
  exit 2
}

install() {
  [ -d "$wheels" ] || fail "WHEELS is $wheels; a folder of wheels is wanted"
  local pip=("$python" -m pip install --quiet --no-index "--find-links=$wheels")
  [ -x "$python" ] || python3 -m venv "$venv"
  "${pip[@]}" setuptools wheel
  "${pip[@]}" --no-build-isolation --editable ".${EXTRA-[cuda]}"
}

# Runs a command until the clock stops it. SIGTERM lets it save its state; a command
# that does not answer goes on from what it saved last.
timed() {
  local left=$((step - SECONDS)) code=0
  [ "$left" -gt 0 ] || exit "$again"
  timeout --preserve-status --signal=TERM --kill-after=45 "$left" "$@" || code=$?
  case $code in
    0) ;;
    75 | 124 | 137 | 143)
      echo "step ended after $SECONDS s; call again"
      exit "$again"
      ;;
    *) exit "$code" ;;
  esac
}

[ -d "$data" ] || fail "INFUSION_JAX_DATA is $data; a folder of data sets is wanted"
"$python" -c "import infusion_jax, jax, flax, optax, orbax.checkpoint" 2>/dev/null || install

timed "$python" -m experiments.reproduce "--target=$targets" "--scale=$scale" \
  "--workdir=$work" "--data=$data" "--out=$parcel/results" --noprogress
# What a stopped export left is not whole.
rm -rf "$parcel/checkpoint"
timed "$python" -m experiments.export "--workdir=$work/$scale/mnist" \
  "--out=$parcel/checkpoint"
echo "finished; $(du -sh "$parcel" | cut -f1) in $parcel"
