#!/usr/bin/env bash
# Installs what Varion needs and is missing: Debian packages (as root or with sudo), then Kokkos and
# Kokkos Kernels built from Debian's source package `trilinos`, kept under .deps (git ignores it) and
# reused when present. A cluster user who brings Kokkos through a module is left alone: set
# Kokkos_ROOT (or pass --no-deps) and nothing is installed.
#
#   scripts/setup.sh [openmp|serial|debug|asan|cuda|hip]... [--no-deps] [--no-packages]
# With --no-packages Kokkos is built, and no package installed.
#
# VARION_CUDA_ARCH (default 80; its code runs on newer GPUs too) and VARION_HIP_ARCH (default gfx90a) choose
# the GPU; every choice has its own Kokkos.
set -euo pipefail
cd "$(dirname "$0")/.."

packages="g++ cmake ninja-build ccache strace libhdf5-openmpi-dev libopenmpi-dev openmpi-bin
  libboost-program-options-dev catch2 libopenblas-openmp-dev libdnnl-dev nlohmann-json3-dev zlib1g-dev libssl-dev
  libxxhash-dev libutf8proc-dev python3-h5py hdf5-tools xz-utils dpkg-dev ca-certificates"
version=3.4.01
tarball_sha256=0ddb47784ba7b8a6b9a07a4822b33be508feb4ccd54301b2a5d10c9e54524b90
deps=$(realpath -m "${VARION_DEPS:-.deps}")

hip_packages="hipcc libamdhip64-dev rocm-device-libs"
cuda_arch=${VARION_CUDA_ARCH:-80} hip_arch=${VARION_HIP_ARCH:-gfx90a}

say() { echo "setup: $*"; }
die() { echo "setup: $1" >&2; exit "${2:-69}"; }

flavours=() install=yes
for argument in "$@"; do
  case "$argument" in
    openmp|serial|debug|asan) flavours+=("$argument") ;;
    cuda) flavours+=(cuda)
      [[ "$cuda_arch" =~ ^[1-9][0-9]+$ ]] || die "VARION_CUDA_ARCH='$cuda_arch' is no number such as 80 or 90" 64
      command -v "${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" >/dev/null ||
        die "no nvcc: install NVIDIA's CUDA toolkit, or set CUDA_HOME to where it lies" ;;
    hip) flavours+=(hip)
      [[ "$hip_arch" =~ ^gfx[0-9a-f]+$ ]] || die "VARION_HIP_ARCH='$hip_arch' is no name such as gfx90a" 64
      packages+=" $hip_packages" ;;
    --no-packages) install=no ;;
    --no-deps) say "--no-deps: nothing is installed"; exit 0 ;;
    *) die "unknown argument '$argument': use openmp, serial, debug, asan, cuda, hip, --no-deps or --no-packages" 64 ;;
  esac
done
[ ${#flavours[@]} -gt 0 ] || flavours=(openmp)
if [ -n "${Kokkos_ROOT:-}${Kokkos_DIR:-}" ]; then
  say "Kokkos comes from ${Kokkos_ROOT:-$Kokkos_DIR}: nothing is installed"
  exit 0
fi

# One set-up at a time in a checkout: a second one waits and then finds everything there.
mkdir -p "$deps"
if command -v flock >/dev/null; then
  exec 9>"$deps/lock"
  flock 9
fi

missing_packages() {
  for p in $packages; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
  done
}

if [ $install = no ]; then
  say "no package is installed"
elif command -v dpkg-query >/dev/null; then
  missing=$(missing_packages | tr '\n' ' ')
  if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then as_root=""
    elif command -v sudo >/dev/null; then as_root=sudo
    else die "not root and no sudo; ask for these packages: $missing"; fi
    say "installing Debian packages: $missing"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
  fi
else
  say "no dpkg here: expecting compilers, MPI, HDF5, Boost and Kokkos from this system's own packages"
fi

# The source package is fetched through a private apt configuration: the system's own sources, as
# deb-src, in a folder of ours, so that the system's configuration is not touched.
fetch_sources() {
  local tree=$deps/src-$version
  [ -d "$tree/kokkos-kernels" ] && return
  mkdir -p "$deps/cache"
  local tarball
  intact() { echo "$tarball_sha256  $1" | sha256sum --check --status; }
  tarball=$(ls "$deps"/cache/trilinos_*.orig.tar.* 2>/dev/null | head -n 1 || true)
  # An interrupted download leaves a short file: fetch it again.
  if [ -n "$tarball" ] && ! intact "$tarball"; then rm -f "$tarball"; tarball=""; fi
  if [ -z "$tarball" ]; then
    command -v apt-get >/dev/null || die "no Kokkos found and no apt-get to fetch it: set Kokkos_ROOT"
    say "fetching the sources of Kokkos $version"
    local apt=$deps/cache/apt
    mkdir -p "$apt/sources" "$apt/lists/partial"
    for f in /etc/apt/sources.list.d/*.sources; do
      [ -e "$f" ] && sed 's/^Types:.*/Types: deb-src/' "$f" >"$apt/sources/$(basename "$f")"
    done
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
      sed -n 's/^deb /deb-src /p' >"$apt/sources/system.list" || true
    local options=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/sources"
      -o "Dir::State::Lists=$apt/lists" -qq)
    apt-get "${options[@]}" update
    (cd "$deps/cache" && apt-get "${options[@]}" source --download-only trilinos >/dev/null 2>&1)
    tarball=$(ls "$deps"/cache/trilinos_*.orig.tar.* | head -n 1)
  fi
  intact "$tarball" ||
    { rm -f "$tarball"; die "checksum of $(basename "$tarball") differs: removed, run again" 65; }
  say "unpacking"
  rm -rf "$tree" "$tree.part"
  mkdir -p "$tree.part"
  tar -C "$tree.part" -xf "$tarball" --strip-components=2 --wildcards \
    '*/packages/kokkos/*' '*/packages/kokkos-kernels/*'
  mv "$tree.part" "$tree"
}

# What a flavour asks of Kokkos: name of its folder, compiler, flags, options.
describe() {
  name=$1 type=Release flags="" compiler=g++ kokkos=() kernels=()
  case "$1" in
    openmp) kokkos=(-DKokkos_ENABLE_OPENMP=ON) ;;
    debug) type=Debug; kokkos=(-DKokkos_ENABLE_DEBUG_BOUNDS_CHECK=ON) ;;
    asan) type=RelWithDebInfo; flags="-fsanitize=address,undefined" ;;
    cuda)
      # Kokkos 3.4 has names up to 86; beyond, nvcc_cxx puts in the number. Explicit instantiation off for
      # every scalar: it would compile for a quarter of an hour what we do not call.
      name=cuda-sm$cuda_arch flags=-DVARION_GPU=sm_$cuda_arch compiler=$PWD/backends/cuda/nvcc_cxx
      local known=AMPERE80
      case "$cuda_arch" in 7[05]) known=VOLTA70 ;; 86) known=AMPERE86 ;; esac
      [ "$cuda_arch" != 75 ] || known=TURING75
      kokkos=(-DKokkos_ENABLE_CUDA=ON -DKokkos_ENABLE_CUDA_LAMBDA=ON "-DKokkos_ARCH_$known=ON")
      kernels=(-DKokkosKernels_ENABLE_TPL_CUBLAS=OFF -DKokkosKernels_ENABLE_TPL_CUSPARSE=OFF) ;;
    hip)
      # Kokkos 3.4 has names up to gfx908; hipcc_cxx puts in the one asked for.
      name=hip-$hip_arch flags=-DVARION_GPU=$hip_arch compiler=$PWD/backends/hip/hipcc_cxx
      local known=VEGA908
      case "$hip_arch" in gfx900) known=VEGA900 ;; gfx906) known=VEGA906 ;; esac
      kokkos=(-DKokkos_ENABLE_HIP=ON "-DKokkos_ARCH_$known=ON") ;;
  esac
  case "$1" in cuda|hip) kernels+=(-DKokkosKernels_INST_FLOAT=OFF) ;; esac
  prefix=$deps/kokkos-$version-$name
}

build_flavour() {
  local name type flags compiler kokkos kernels prefix
  describe "$1"
  [ -e "$prefix/complete" ] && return
  fetch_sources
  say "building Kokkos and Kokkos Kernels $version ($name)"
  rm -rf "$prefix" "$prefix.build"
  local common=(-DCMAKE_BUILD_TYPE=$type "-DCMAKE_INSTALL_PREFIX=$prefix" "-DCMAKE_CXX_FLAGS=$flags -w"
    "-DCMAKE_CXX_COMPILER=$compiler" -DCMAKE_CXX_STANDARD=17 -DCMAKE_CXX_EXTENSIONS=OFF)
  command -v ninja >/dev/null && common+=(-G Ninja)
  command -v ccache >/dev/null && common+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  local log=$deps/build-$name.log
  {
    cmake -S "$deps/src-$version/kokkos" -B "$prefix.build/kokkos" "${common[@]}" -DKokkos_ENABLE_SERIAL=ON \
      -DKokkos_ENABLE_TESTS=OFF -DKokkos_ENABLE_EXAMPLES=OFF -DKokkos_ENABLE_LIBDL=ON "${kokkos[@]}" &&
    cmake --build "$prefix.build/kokkos" && cmake --install "$prefix.build/kokkos" &&
    cmake -S "$deps/src-$version/kokkos-kernels" -B "$prefix.build/kernels" "${common[@]}" \
      "-DKokkos_ROOT=$prefix" -DKokkosKernels_ADD_DEFAULT_ETI=OFF -DKokkosKernels_INST_DOUBLE=OFF \
      -DKokkosKernels_INST_LAYOUTLEFT=OFF -DKokkosKernels_INST_OFFSET_SIZE_T=OFF \
      -DKokkosKernels_INST_OFFSET_INT=OFF -DKokkosKernels_INST_ORDINAL_INT=OFF "${kernels[@]}" &&
    cmake --build "$prefix.build/kernels" && cmake --install "$prefix.build/kernels"
  } >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "building Kokkos failed; the whole log: $log" 70; }
  rm -rf "$prefix.build"
  # What Kokkos hands on to those who use it must name the GPU that was asked for.
  sed -i "s/-arch=sm_[0-9]*/-arch=sm_$cuda_arch/; s/--amdgpu-target=gfx[0-9a-f]*/--offload-arch=$hip_arch/" \
    "$prefix"/lib*/cmake/Kokkos/*.cmake
  touch "$prefix/complete"
}

for flavour in "${flavours[@]}"; do build_flavour "$flavour"; done
