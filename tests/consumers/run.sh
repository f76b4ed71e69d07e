#!/usr/bin/env bash
# Builds and runs the three consumers against an installed tree and this source tree. run.sh BUILD_DIR SCRATCH_DIR
set -euo pipefail
build=$(realpath "$1"); mkdir -p "$2"; scratch=$(realpath "$2"); here=$(dirname "$(realpath "$0")")
rm -rf "${scratch:?}"/*
cmake --install "$build" --prefix "$scratch/prefix" >/dev/null
passed=0 failed=0
judge() { # name program
  if [ "$("$2")" = 42 ]; then passed=$((passed + 1)); echo "consumer $1: ok"; else failed=$((failed + 1)); echo "consumer $1: FAILED"; fi
}
cmake -S "$here/find_package" -B "$scratch/fp" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/prefix" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$scratch/fp" >/dev/null
judge find_package "$scratch/fp/consumer"
cmake -S "$here/add_subdirectory" -B "$scratch/as" -G Ninja -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$scratch/as" >/dev/null
judge add_subdirectory "$scratch/as/consumer"
PKG_CONFIG_PATH=$(dirname "$(find "$scratch/prefix" -name grt.pc)") make -s -C "$here/pkg_config" OUT="$scratch/pc"
judge pkg_config "$scratch/pc"
if cmake -S "$here/find_package" -B "$scratch/old" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/prefix" -Dgrt_FIND_VERSION_CHECK=1 >/dev/null 2>&1 &&
  sed 's/grt 0.1/grt 9.0/' "$here/find_package/CMakeLists.txt" >"$scratch/CMakeLists.txt" && cmake -S "$scratch" -B "$scratch/v9" -G Ninja -DCMAKE_PREFIX_PATH="$scratch/prefix" >/dev/null 2>&1; then
  failed=$((failed + 1)); echo "consumer version: FAILED, 9.0 was found"
else passed=$((passed + 1)); echo "consumer version: ok, 9.0 is refused"; fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
