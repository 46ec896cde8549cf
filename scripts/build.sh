#!/usr/bin/env bash
# Sets up, configures and builds a preset: scripts/build.sh [openmp|serial|debug|asan|cuda|hip] [ninja targets]
# With the demo's `varion` target alone, the test programs are not built.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-openmp}
shift || true
scripts/setup.sh "$preset"
mkdir -p "build/$preset"
log=build/$preset/configure.log
if [ ! -e "build/$preset/build.ninja" ]; then
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  sed -n '/^-- Varion/,/^--   tests/p' "$log"
fi
# --quiet keeps the progress lines away, not the compiler's messages.
cmake --build --preset "$preset" ${1:+--target "$@"} -- --quiet
