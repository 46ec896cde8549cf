#!/usr/bin/env bash
# Campaigns larger than with every change, those of tests/faults, a stop after every step of a run, and Hessian updates:
#   scripts/campaign.sh N|R [kills|saves|space|starts|ranks_end|values|jobs|flips|exact|positivity]...
# N takes about two hours on 2 cores, R a day. Prints a table each; ends with 1 where anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  N|R) export VARION_TIER=$1; shift ;;
  *) echo "use: scripts/campaign.sh N|R [kills|saves|space|starts|ranks_end|values|jobs|flips|exact|positivity]..." >&2; exit 64 ;;
esac
[ $# -gt 0 ] || set -- kills saves space starts ranks_end values jobs flips exact positivity
scripts/build.sh openmp varion varion_inject test_restart test_faults test_optim
export VARION_BIN=$PWD/build/openmp/varion VARION_INJECT_BIN=$PWD/build/openmp/varion_inject PYTHONPATH=$PWD/tests/support OMP_NUM_THREADS=1
mkdir -p build/campaign
python=/usr/bin/python3  # Debian's has h5py
[ -x $python ] || python=python3
status=0
for name in "$@"; do
  case "$name" in
    exact) program=test_restart ;;
    flips) program=test_faults ;;
    positivity) program=test_optim ;;
    *) program= ;;
  esac
  if [ -n "$program" ]; then
    (cd build/campaign && "../openmp/$program" -# "[#$name]") || status=1
    continue
  fi
  [ -f "tests/faults/$name.py" ] || { echo "unknown campaign '$name'" >&2; exit 64; }
  (cd build/campaign && "$python" "../../tests/faults/$name.py") || status=1
done
exit $status
