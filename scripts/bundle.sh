#!/usr/bin/env bash
# Packs what a machine without network needs to build Varion: these sources (the last commit), those of Kokkos and
# Kokkos Kernels, and with --libraries the other libraries (HDF5, MPI, Boost, OpenSSL, zlib, xxHash,
# nlohmann-json, Catch2) as this Debian machine has them. There: unpack, then ./build-offline.sh cuda|hip|openmp.
#
#   scripts/bundle.sh [--libraries] [OUTPUT.tar.xz]     (default output: build/varion-bundle.tar.xz)
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "bundle: $1" >&2; exit "${2:-69}"; }
libraries=no output=build/varion-bundle.tar.xz
for argument in "$@"; do
  case "$argument" in
    --libraries) libraries=yes ;;
    -*) die "unknown argument '$argument': use --libraries and the output's name" 64 ;;
    *) output=$argument ;;
  esac
done
version=3.4.01
deps=$(realpath -m "${VARION_DEPS:-.deps}")
[ -d "$deps/src-$version/kokkos-kernels" ] || scripts/setup.sh openmp
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/varion
mkdir -p "$tree/.deps" "$(dirname "$output")"
git archive HEAD | tar -x -C "$tree"
git describe --always --dirty >"$tree/VERSION"
ln -s scripts/build-offline.sh "$tree/build-offline.sh"
mkdir "$tree/.deps/src-$version"
cp -r "$deps/src-$version/kokkos" "$deps/src-$version/kokkos-kernels" "$tree/.deps/src-$version/"

# A shared library under its SONAME with the name that linkers look for, and all that it needs but the C and C++
# run times, which the other machine has.
take_library() {
  local file=$1 name=$2 soname needed
  soname=$(objdump -p "$file" | awk '$1 == "SONAME" {print $2}')
  cp -L "$file" "$tree/libraries/lib/$soname"
  [ "$soname" = "$name" ] || ln -sf "$soname" "$tree/libraries/lib/$name"
  while read -r needed; do
    case "$(basename "$needed")" in
      libc.so*|libm.so*|libdl.so*|librt.so*|libpthread.so*|ld-linux*|libstdc++.so*|libgcc_s.so*) continue ;;
    esac
    [ -e "$tree/libraries/lib/$(basename "$needed")" ] || cp -L "$needed" "$tree/libraries/lib/"
  done < <(ldd "$file" | awk '$3 ~ /^\// {print $3}')
}

# Headers of a package, from below one of these folders into one.
take_headers() {
  local header
  dpkg -L "$1" | grep -E "^/usr/(include|lib/.*/include)/.*\.(h|hpp)$" | while read -r header; do
    local name=${header#/usr/include/}
    name=${name#*/openmpi/include/}
    name=${name#hdf5/openmpi/}
    name=${name#"$arch"/}
    install -D -m 644 "$header" "$tree/libraries/include/$name"
  done
}

if [ $libraries = yes ]; then
  command -v dpkg >/dev/null || die "--libraries needs a Debian machine on which scripts/setup.sh has run"
  arch=$(gcc -print-multiarch)
  mkdir -p "$tree/libraries/lib" "$tree/libraries/include"
  for package in libhdf5-openmpi-dev libopenmpi-dev libssl-dev zlib1g-dev libxxhash-dev libutf8proc-dev nlohmann-json3-dev catch2; do
    take_headers $package
  done
  # Boost is large: what program_options includes is enough.
  echo '#include <boost/program_options.hpp>
#include <boost/version.hpp>' | g++ -std=c++17 -x c++ -M - | tr -d '\\' | tr ' ' '\n' | grep ^/usr/include/boost/ |
    while read -r header; do install -D -m 644 "$header" "$tree/libraries/include/${header#/usr/include/}"; done
  mkdir -p "$tree/libraries/share/cmake" "$tree/libraries/lib/cmake"
  cp -r /usr/share/cmake/nlohmann_json "$tree/libraries/share/cmake/"
  cp -r /usr/lib/cmake/Catch2 "$tree/libraries/lib/cmake/"
  rm -f "$tree"/libraries/lib/cmake/Catch2/Catch2Targets-*.cmake  # they name a library; the headers are enough
  lib=/usr/lib/$arch
  for name in hdf5 hdf5_hl; do take_library "$lib/hdf5/openmpi/lib$name.so" lib$name.so; done
  take_library "$lib/openmpi/lib/libmpi.so" libmpi.so
  for name in boost_program_options crypto utf8proc z; do take_library "$lib/lib$name.so" lib$name.so; done
fi
tar -C "$work" -cJf "$output" varion
size=$(($(stat -c %s "$output") / 1000000))
echo "bundle: $output, $size MB"
[ $size -lt 64 ] || echo "bundle: that is more than 64 MB" >&2
