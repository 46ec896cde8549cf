#!/usr/bin/env bash
# Campaigns larger than with every change, those of tests/faults and a stop after every step of a run:
#   scripts/campaign.sh N|R [kills|saves|space|starts|ranks_end|jobs|exact]...
# N takes about an hour on 2 cores, R a day. Prints a table each; ends with 1 where anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  N|R) export VARION_TIER=$1; shift ;;
  *) echo "use: scripts/campaign.sh N|R [kills|saves|space|starts|ranks_end|jobs|exact]..." >&2; exit 64 ;;
esac
[ $# -gt 0 ] || set -- kills saves space starts ranks_end jobs exact
scripts/build.sh openmp varion test_restart
export VARION_BIN=$PWD/build/openmp/varion PYTHONPATH=$PWD/tests/support OMP_NUM_THREADS=1
mkdir -p build/campaign
python=/usr/bin/python3  # Debian's has h5py
[ -x $python ] || python=python3
status=0
for name in "$@"; do
  if [ "$name" = exact ]; then
    (cd build/campaign && ../openmp/test_restart -# "[#exact]") || status=1
    continue
  fi
  [ -f "tests/faults/$name.py" ] || { echo "unknown campaign '$name'" >&2; exit 64; }
  (cd build/campaign && "$python" "../../tests/faults/$name.py") || status=1
done
exit $status
