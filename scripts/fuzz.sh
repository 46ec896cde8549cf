#!/usr/bin/env bash
# Fuzzes the readers with libFuzzer under the address and undefined-behaviour sanitizers: scripts/fuzz.sh RUNS [target]...
# Targets: idx cifar table indices posterior safetensors tokens vocabulary words config cli, and hdf5, which is not among the default ones: what it finds are faults of
# HDF5's own parser (docs/formats.md). Needs clang. What was found stays in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:?use: scripts/fuzz.sh RUNS [idx|cifar|table|indices|posterior|safetensors|tokens|vocabulary|words|hdf5|config|cli]...}
shift
[ $# -gt 0 ] || set -- idx cifar table indices posterior safetensors tokens vocabulary words config cli
command -v clang++ >/dev/null || { echo "fuzzing needs clang: apt-get install clang" >&2; exit 69; }
scripts/build.sh openmp varion  # the posterior files to start from are its work; the readers are compiled apart
kokkos=$(echo "${VARION_DEPS:-.deps}"/kokkos-*-openmp)
mkdir -p build/fuzz
flags=(-std=c++17 -O2 -g1 -fopenmp=libgomp -D_OPENMP=201511 -fsanitize=address,undefined -fno-sanitize-recover=undefined -Isrc -I.
  -Ibuild/openmp/generated -isystem "$kokkos/include" -isystem "/usr/lib/$(gcc -print-multiarch)/openmpi/include" -DOMPI_SKIP_MPICXX)
read -ra hdf5 <<<"$(pkg-config --cflags hdf5-openmpi 2>/dev/null || echo -isystem /usr/include/hdf5/openmpi)"
# Nothing is to be learnt from which letters of which keys were compared. Which numbers were is not traced anywhere: it took up to
# half of the time, and the first inputs are whole files.
clang++ "${flags[@]}" -c src/core/suggest.cpp -o build/fuzz/suggest.o
sources=()
for file in io/*.cpp; do [ "$file" = io/input_file.cpp ] || sources+=("$file"); done  # tests/fuzz has its own
clang++ "${flags[@]}" "${hdf5[@]}" -fsanitize=fuzzer -fno-sanitize-coverage=trace-cmp \
  tests/fuzz/*.cpp "${sources[@]}" src/data/tokenizer*.cpp src/data/gpt2_*.cpp src/app/commands/arguments.cpp src/comm/mpi_session.cpp \
  src/core/huge_pages.cpp src/core/options.cpp src/core/option_table.cpp build/fuzz/suggest.o \
  "$kokkos"/lib/libkokkoscore.a -lgomp -L"/usr/lib/$(gcc -print-multiarch)/hdf5/openmpi" -lhdf5_hl -lhdf5 -lboost_program_options -lmpi -lcrypto -lutf8proc -lz -ldl -lpthread \
  -o build/fuzz/readers
cd build/fuzz
if [ ! -d seeds ]; then
  mkdir -p seeds/{idx,cifar,table,indices,posterior,safetensors,tokens,vocabulary,words,hdf5,config,cli}
  printf '\0\0\10\1\0\0\0\3\1\2\3' >seeds/idx/one
  printf '\0\0\10\3\0\0\0\1\0\0\0\2\0\0\0\2\1\2\3\4x' >seeds/idx/three
  gzip -nc seeds/idx/one >seeds/idx/packed
  cp ../../tests/restart/posterior-1.0.h5 seeds/posterior/
  head -c 3073 /dev/zero >seeds/cifar/one
  printf 'a,b\n1.5,2e3\n-3;4\n' >seeds/table/one
  printf '0\n5\n7\n' >seeds/indices/one
  { printf '\310\330\064\001\1\0\0\0\3\0\0\0'; head -c 1012 /dev/zero; printf 'abcdef'; } >seeds/tokens/llmc
  printf 'abcdef' >seeds/tokens/nanogpt
  python3 - >seeds/vocabulary/one <<'PYTHON'
seen = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
written = [chr(b) for b in seen] + [chr(256 + k) for k in range(68)]
quoted = [c if c not in '"\\' else "\\" + c for c in written + ["ab", "abc"]]
print("{" + ", ".join(f'"{c}": {k}' for k, c in enumerate(quoted)) + "}\0#version: 0.2\na b\nab c")
PYTHON
  printf "I'm  here\n\n \303\251t\303\251 3rd we'LL \347\346\274\242 \303" >seeds/words/one
  printf 'caf\303\251 \360\237\230\200\n' >seeds/words/two
  printf 'optim.name=ivon\nmodel.sizes=8,8\n--out=a\nb.ini\n--json\nc\n' >seeds/cli/one
  printf '[optim]\nname = ivon\nlr = 0.1  # rate\n[model]\nsizes = 8,8\n' >seeds/config/one
  ../openmp/varion -q train data.name=moons model.sizes=2 train.steps=1 eval.samples=1 eval.every=0st run.dir="$PWD/seed-run" run.overwrite=true
  cp seed-run/final.h5 seeds/posterior/
  ../openmp/varion posterior export seed-run/final.h5 --out=seeds/safetensors/final --states=all >/dev/null
  printf '%b' '\x3d\0\0\0\0\0\0\0{"w":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}    \0\x40\x80\x3f' >seeds/safetensors/half
  head -c -$((192 + 75)) seed-run/final.h5 >seeds/hdf5/final
fi
status=0
for target in "$@"; do
  [ -d "seeds/$target" ] || { echo "unknown target '$target'" >&2; exit 64; }
  mkdir -p "corpus/$target"
  # What it sees compared it copies: given the digest that a file should have, it makes files for `hdf5`, with faults of HDF5's own.
  compares=1
  [ "$target" != posterior ] || compares=0
  echo "fuzz: $target, $runs runs"
  FUZZ_TARGET=$target ASAN_OPTIONS=detect_leaks=1:malloc_context_size=3:quarantine_size_mb=16 ./readers -runs="$runs" -use_cmp=$compares -entropic=0 -rss_limit_mb=512 -malloc_limit_mb=256 -timeout=5 -max_len=40000 \
    -artifact_prefix="found-$target-" -print_final_stats=1 "corpus/$target" "seeds/$target" >"$target.log" 2>&1 || status=1
  grep -E "number_of_executed_units|average_exec|peak_rss|SUMMARY|ERROR|refused with" "$target.log"
done
exit $status
