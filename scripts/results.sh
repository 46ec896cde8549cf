#!/usr/bin/env bash
# The measured results of docs/results.md, from real data: scripts/results.sh FOLDER, where FOLDER holds
# mnist/ (IDX), cifar10/ (binary version) and uci/ as docs/formats.md describes. Finished runs are skipped.
#   scripts/results.sh FOLDER [mnist|cifar10|uci]...
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "use: scripts/results.sh FOLDER [mnist|cifar10|uci]..." >&2; exit 64; }
data=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- mnist cifar10 uci
scripts/build.sh openmp varion
varion=build/openmp/varion
for what in "$@"; do
  case "$what" in
    mnist)
      for preset in mnist-lenet-ivon mnist-lenet-adamw; do
        $varion train model.preset=$preset data.root="$data" data.path=mnist run.name=$preset
      done ;;
    cifar10)
      $varion train model.preset=cifar10-resnet20-ivon-short data.root="$data" data.path=cifar10 \
        run.name=cifar10-resnet20-ivon-short ;;
    uci)
      $varion study run studies/uci data.root="$data"
      $varion study report studies/uci data.root="$data" ;;
    *) echo "unknown '$what': use mnist, cifar10 or uci" >&2; exit 64 ;;
  esac
done
