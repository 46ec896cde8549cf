#!/usr/bin/env bash
# Builds from a bundle of scripts/bundle.sh: needs cmake, a C++17 compiler and, for a GPU, its toolkit; no network,
# nothing installed. Ends with build/<preset>/varion and, where Catch2 was found, the test programs beside it.
#
#   ./build-offline.sh [cuda|hip|openmp]     VARION_CUDA_ARCH, VARION_HIP_ARCH as in scripts/setup.sh
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
preset=${1:-openmp}
case "$preset" in
  openmp|cuda|hip) ;;
  *) echo "build-offline: unknown preset '$preset': use openmp, cuda or hip" >&2; exit 64 ;;
esac
jobs=${VARION_JOBS:-$(nproc)}
export CMAKE_BUILD_PARALLEL_LEVEL=$jobs
scripts/setup.sh --no-packages "$preset"
options=(-DCMAKE_BUILD_TYPE=Release "-DVARION_FLAVOUR=$preset")
command -v ninja >/dev/null && options+=(-G Ninja)
if [ -d libraries ]; then
  own=$PWD/libraries
  # By name, so that nothing of the machine's takes their place; the wrappers of MPI and HDF5 are not in the bundle.
  options+=("-DCMAKE_PREFIX_PATH=$own" "-DBOOST_ROOT=$own" -DBoost_NO_BOOST_CMAKE=ON -DBoost_NO_SYSTEM_PATHS=ON
    -DMPI_C_COMPILER=MPI_C_COMPILER-NOTFOUND -DMPI_C_LIB_NAMES=mpi "-DMPI_mpi_LIBRARY=$own/lib/libmpi.so"
    "-DMPI_C_HEADER_DIR=$own/include" -DHDF5_NO_FIND_PACKAGE_CONFIG_FILE=ON "-DHDF5_ROOT=$own"
    -DHDF5_C_COMPILER_EXECUTABLE=HDF5-NOTFOUND "-DOPENSSL_ROOT_DIR=$own" "-DZLIB_ROOT=$own"
    "-DCMAKE_EXE_LINKER_FLAGS=-Wl,-rpath-link,$own/lib -Wl,--disable-new-dtags")
fi
cmake -S . -B "build/$preset" "${options[@]}" >"build-$preset.log" 2>&1 || { tail -n 30 "build-$preset.log" >&2; exit 1; }
sed -n '/^-- Varion/,/^--   tests/p' "build-$preset.log"
cmake --build "build/$preset"
"build/$preset/varion" info | head -n 6
