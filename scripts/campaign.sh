#!/usr/bin/env bash
# Fault campaigns of tests/faults, larger than with every change: scripts/campaign.sh N|R [kills|saves|space|starts|ranks_end]...
# N takes about an hour on 2 cores, R a day. Prints a table each; ends with 1 where anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  N|R) export VARION_TIER=$1; shift ;;
  *) echo "use: scripts/campaign.sh N|R [kills|saves|space|starts|ranks_end]..." >&2; exit 64 ;;
esac
[ $# -gt 0 ] || set -- kills saves space starts ranks_end
scripts/build.sh openmp varion
export VARION_BIN=$PWD/build/openmp/varion OMP_NUM_THREADS=1
mkdir -p build/campaign
status=0
for name in "$@"; do
  [ -f "tests/faults/$name.py" ] || { echo "unknown campaign '$name'" >&2; exit 64; }
  (cd build/campaign && python3 "../../tests/faults/$name.py") || status=1
done
exit $status
