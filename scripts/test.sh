#!/usr/bin/env bash
# The tests: sets up, builds and runs the suite of a preset (default openmp) without the campaigns. Where the
# preset's GPU is missing, all is built and linked, and only what needs no device runs.
#   scripts/test.sh [openmp|serial|debug|asan|cuda|hip] [further ctest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-openmp}
shift || true
# mpirun refuses root unless told otherwise; containers and CI run as root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
begin=$SECONDS
scripts/setup.sh "$preset"
ready=$SECONDS
scripts/build.sh "$preset"
built=$SECONDS
status=0
labels=()
if "build/$preset/varion" info | grep '^device *none:'; then
  echo "$preset: built; of the tests, only those that need no device"
  labels=(-L "device|style")
fi
ctest --test-dir "build/$preset" -LE campaign --output-on-failure -j$((2 * $(nproc))) --no-tests=error "${labels[@]}" "$@" || status=$?
echo "$preset: set-up $((ready - begin)) s, build $((built - ready)) s, tests $((SECONDS - built)) s"
exit $status
