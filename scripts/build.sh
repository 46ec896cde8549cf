#!/usr/bin/env bash
# Sets up, configures and builds a preset: scripts/build.sh [openmp|serial|debug|asan] [ninja targets]
# With the demo's `varion` target alone, the test programs are not built.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-openmp}
shift || true
scripts/setup.sh "$preset"
[ -e "build/$preset/build.ninja" ] || cmake --preset "$preset" | grep -E '^--   |Varion' || true
cmake --build --preset "$preset" ${1:+--target "$@"} | tail -n 3
