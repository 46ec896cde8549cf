#!/usr/bin/env bash
# Varion against PyTorch and ivon-opt on this machine, in turns: scripts/bench-peers.sh [options of scripts/peers.py]
# Prints the table and leaves it, with every figure, in build/peers. PyTorch comes into .deps/peers; nothing else of
# the project needs it. PEERS_PYTHON names another Python that has torch and ivon-opt.
set -euo pipefail
cd "$(dirname "$0")/.."

# PyPI's PyTorch for x86-64 is linked to CUDA's libraries, several GB that a CPU never calls. Where they are missing,
# empty ones take their places: every function that PyTorch asks of them answers "no device".
stand_in_for_cuda() {
  local lib=$1/torch/lib work so node
  work=$(mktemp -d)
  nm -D --undefined-only "$lib"/*.so | awk '$1 == "U" {print $2}' | sort -u |
    grep -E '^(__cuda|cu[A-Zbdfpst]|nccl|nvrtc|nvshmem)' >"$work/symbols"
  for so in $(readelf -d "$lib"/*.so | sed -nE 's/.*NEEDED.*\[(lib(cu|nv|nccl).*)\]/\1/p' | sort -u); do
    [ ! -e "$lib/$so" ] || continue
    case $so in libcuda.so*) continue ;; libnvshmem*) node=NVSHMEM ;; *) node=$so ;; esac
    sed -n "s/@$node\$//p" "$work/symbols" >"$work/names"
    { echo "$node {"; sed '1s/^/global: /; s/$/;/' "$work/names"; echo "};"; } >"$work/versions"
    case $so in libcudart.so*) grep -v @ "$work/symbols" >>"$work/names" ;; esac  # those without a version, once
    awk '{ print ($1 ~ /String/ ? "const char* " $1 "(void) { return \"none\"; }" : "long " $1 "(void) { return 100; }") }' \
      "$work/names" >"$work/stand_in.c"
    gcc -shared -fPIC -w -fno-builtin -o "$lib/$so" "$work/stand_in.c" -Wl,-soname,"$so" \
      -Wl,--version-script,"$work/versions"
  done
  rm -r "$work"
}

python=${PEERS_PYTHON:-}
if [ -z "$python" ]; then
  python=.deps/peers/bin/python
  if ! "$python" -c 'import torch, ivon' 2>/dev/null; then
    mkdir -p .deps
    [ "$(df --output=avail -k .deps | tail -1)" -gt 4000000 ] || { echo "PyTorch needs 4 GB in .deps" >&2; exit 69; }
    echo "Installing PyTorch and ivon-opt into .deps/peers (0.6 GB to download)" >&2
    python3 -m venv .deps/peers
    "$python" -m pip install --quiet numpy filelock typing_extensions setuptools sympy networkx jinja2 fsspec
    "$python" -m pip install --quiet --no-deps torch ivon-opt
    stand_in_for_cuda "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    "$python" -c 'import torch, ivon' || {
      echo "PyTorch does not load; install another (Debian: python3-torch; pip install ivon-opt) and name it: PEERS_PYTHON" >&2
      exit 69
    }
  fi
fi
scripts/build.sh openmp varion >&2
exec "$python" scripts/peers.py --against=build/openmp/varion "$@"
