#!/usr/bin/env bash
# The main job: sets up, builds, then runs the study studies/demo (networks trained with IVON, VON,
# AdamW and SGD on built-in data, several seeds) and prints its table. Finished runs are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh openmp varion
build/openmp/varion study run studies/demo "$@"
build/openmp/varion study report studies/demo
