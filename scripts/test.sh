#!/usr/bin/env bash
# The tests: sets up, builds and runs the suite of a preset (default openmp) without the campaigns.
#   scripts/test.sh [openmp|serial|debug|asan] [further ctest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-openmp}
shift || true
# mpirun refuses root unless told otherwise; containers and CI run as root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
begin=$SECONDS
scripts/build.sh "$preset"
built=$SECONDS
ctest --test-dir "build/$preset" -LE campaign --output-on-failure "$@"
echo "set-up and build: $((built - begin)) s, tests: $((SECONDS - built)) s ($preset)"
