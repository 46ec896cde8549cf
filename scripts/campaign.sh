#!/usr/bin/env bash
# Campaigns larger than with every change: those of tests/faults, the grid of ranks and threads (tests/mpi), a stop after every step of
# a run, a writer killed at random, damaged and made-up files, Hessian updates over the whole range of numbers, draws by counter in every way, flipped bits, mutants
# of the program that the tests must see, and a job that is killed every half minute for an hour (R: eight):
#   scripts/campaign.sh N|R [NAME]...
# N takes about four hours on 2 cores, R more than a day. Prints a table each; ends with 1 where anything failed. With
# `scripts/build.sh serial varion` before it, the grid covers Kokkos' serial back end too.
set -euo pipefail
cd "$(dirname "$0")/.."
all="kills saves crash_states space permissions clocks starts ranks_end values rank_io jobs grid exact writer damage made_up flips positivity random mutants chaos"
case "${1:-}" in
  N|R) export VARION_TIER=$1; shift ;;
  *) echo "use: scripts/campaign.sh N|R [${all// /|}]..." >&2; exit 64 ;;
esac
[ $# -gt 0 ] || set -- $all
scripts/build.sh openmp varion varion_inject test_restart test_unit test_faults test_optim
export VARION_BIN=$PWD/build/openmp/varion VARION_INJECT_BIN=$PWD/build/openmp/varion_inject VARION_SOURCE_DIR=$PWD
export PYTHONPATH=$PWD/tests/support OMP_NUM_THREADS=1
mkdir -p build/campaign
python=/usr/bin/python3  # Debian's has h5py
[ -x $python ] || python=python3
status=0
for name in "$@"; do
  case "$name" in
    exact) (cd build/campaign && ../openmp/test_restart -# "[#exact]") || status=1 ;;
    writer) (cd build/campaign && ../openmp/test_restart -# "[#killed_writer]") || status=1 ;;
    made_up) (cd build/campaign && ../openmp/test_restart "[made_up]") || status=1 ;;
    damage) (cd build/campaign && ../openmp/test_restart -# "[#damage]") || status=1 ;;
    flips) (cd build/campaign && ../openmp/test_faults -# "[#flips]") || status=1 ;;
    positivity) (cd build/campaign && ../openmp/test_optim -# "[#positivity]") || status=1 ;;
    random) (cd build/campaign && OMP_NUM_THREADS=2 ../openmp/test_unit -# "[#random]") || status=1 ;;
    mutants) VARION_TIER=C scripts/mutants.py || status=1 ;;  # each needs one red test, not a campaign
    *)
      script=$(ls tests/faults/"$name".py tests/mpi/"$name".py 2>/dev/null || true)
      [ -n "$script" ] || { echo "unknown campaign '$name'" >&2; exit 64; }
      (cd build/campaign && "$python" "../../$script") || status=1 ;;
  esac
done
exit $status
