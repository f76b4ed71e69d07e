#!/usr/bin/env bash
# Builds this tree with every variant in an empty directory, installs it, and builds and runs a user's program against it and against the
# tree in each way there is: archive, shared library, Debian package, subproject. What does not fit together must not link. run.sh SCRATCH_DIR
set -euo pipefail
mkdir -p "$1"; scratch=$(realpath "$1"); here=$(dirname "$(realpath "$0")")
rm -rf "${scratch:?}"/*
launcher=(); ! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)
configure() { cmake -S "$1" -B "$scratch/$2" -G Ninja -DCMAKE_BUILD_TYPE=Release "${launcher[@]}" "${@:3}"; }
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "consumer $1: ok"; }
bad() { failed=$((failed + 1)); echo "consumer $1: FAILED"; }
judge() { # name program grt|asan|tsan: the answer is right, nothing is reported, and the program carries that sanitizer or none
  local symbols answer has=grt
  symbols=$(nm "$2") && answer=$("$2") || answer=$?
  [[ $symbols != *__asan_init* ]] || has=asan
  [[ $symbols != *__tsan_init* ]] || has=tsan
  if [ "$answer" = 42 ] && [ $has = "$3" ]; then ok "$1"; else bad "$1"; fi
}
is() { # name condition...
  if "${@:2}"; then ok "$1"; else bad "$1"; fi
}
probes() { # archive: its code touches a large frame page by page
  objdump -d "$1" | grep -qE 'or[ql] +\$0x0,\(%rsp\)|str +xzr, \[sp'
}
refused() { # name symbol flags...: does not link, for that symbol
  if ${CXX:-c++} -std=c++20 -I"$scratch/prefix/include" "$here/main.cpp" -o "$scratch/refused" "${@:3}" -pthread >"$scratch/link.log" 2>&1; then bad "$1"
  elif grep -q "undefined reference to .$2" "$scratch/link.log"; then ok "$1"
  else cat "$scratch/link.log"; bad "$1"; fi
}

library_only="-DGRT_WERROR=ON -DGRT_BUILD_TESTS=OFF -DGRT_BUILD_EXAMPLES=OFF -DGRT_BUILD_TOOLS=OFF"
configure "$here/../.." grt -DGRT_INSTALL_VARIANTS=ON -DCMAKE_INSTALL_PREFIX=/usr $library_only >/dev/null
cmake --build "$scratch/grt" >/dev/null
cmake --install "$scratch/grt" --prefix "$scratch/prefix" >/dev/null
lib=$(dirname "$(find "$scratch/prefix" -name libgrt.a)")

for variant in grt asan tsan; do
  configure "$here/find_package" fp-$variant -DCMAKE_PREFIX_PATH="$scratch/prefix" -DVARIANT=$variant >/dev/null
  cmake --build "$scratch/fp-$variant" >/dev/null
  judge "find_package $variant" "$scratch/fp-$variant/consumer" $variant
  pc=grt; [ $variant = grt ] || pc=grt-$variant
  PKG_CONFIG_PATH=$lib/pkgconfig make -s -C "$here/pkg_config" PC=$pc OUT="$scratch/pc-$variant"
  judge "pkg_config $pc" "$scratch/pc-$variant" $variant
done
for variant in grt: asan:address tsan:thread; do # with the flags of the first build, so that ccache knows the objects
  configure "$here/add_subdirectory" as-${variant%:*} -DCMAKE_CXX_FLAGS_RELEASE="-O2 -g -DNDEBUG" -DGRT_WERROR=ON -DGRT_SANITIZE=${variant#*:} >/dev/null
  cmake --build "$scratch/as-${variant%:*}" >/dev/null
  judge "add_subdirectory ${variant%:*}" "$scratch/as-${variant%:*}/consumer" ${variant%:*}
done

is "find_package stack_protection" probes "$scratch/fp-grt/libprotected.a"
is "add_subdirectory stack_protection" probes "$scratch/as-grt/libprotected.a"

configure "$here/add_subdirectory" as-flags -DCMAKE_CXX_FLAGS_RELEASE="-O1 -DNDEBUG" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON >/dev/null
theirs=$(grep -c '"command".* -O1 ' "$scratch/as-flags/compile_commands.json") && [ "$(grep -c '"command".*\.cpp' "$scratch/as-flags/compile_commands.json")" = "$theirs" ] || theirs=0
is "add_subdirectory compiles with the flags of the project around it" [ "$theirs" -gt 1 ]
is "add_subdirectory installs nothing" [ -z "$(cmake --install "$scratch/as-grt" --prefix "$scratch/nothing" >/dev/null; ls "$scratch/nothing" 2>/dev/null)" ]

# The shared library: found by its soname, never unloaded, every symbol resolved before the program begins.
configure "$here/../.." shared -DBUILD_SHARED_LIBS=ON $library_only -DGRT_BUILD_TESTS=ON >"$scratch/shared.log"
is "shared: one line says that tests are left out" [ "$(grep -c "tests are left out" "$scratch/shared.log")" -eq 1 ]
cmake --build "$scratch/shared" >/dev/null
cmake --install "$scratch/shared" --prefix "$scratch/shared-prefix" >/dev/null
so=$(find "$scratch/shared-prefix" -name libgrt.so)
dynamic=$(readelf -dW "$so")
is "shared soname" grep -qE 'SONAME.*\[libgrt\.so\.0\.1\]' <<<"$dynamic"
is "shared nodelete" grep -qE 'FLAGS_1.*NODELETE' <<<"$dynamic"
is "shared now" grep -qE 'FLAGS_1.*NOW' <<<"$dynamic"
configure "$here/find_package" fp-shared -DCMAKE_PREFIX_PATH="$scratch/shared-prefix" >/dev/null
cmake --build "$scratch/fp-shared" >/dev/null
judge "find_package shared" "$scratch/fp-shared/consumer" grt
is "find_package shared: the program needs libgrt.so.0.1" grep -q 'NEEDED.*libgrt.so.0.1' <<<"$(readelf -dW "$scratch/fp-shared/consumer")"
PKG_CONFIG_PATH=$(dirname "$so")/pkgconfig make -s -C "$here/pkg_config" PC=grt OUT="$scratch/pc-shared"
LD_LIBRARY_PATH=$(dirname "$so") judge "pkg_config shared" "$scratch/pc-shared" grt

# The Debian package, unpacked where no root is needed.
if command -v dpkg-deb >/dev/null; then
  (cd "$scratch/grt" && cpack -G DEB >"$scratch/cpack.log" 2>&1) || cat "$scratch/cpack.log"
  deb=$(find "$scratch/grt" -maxdepth 1 -name 'libgrt-dev_0.1.0_*.deb')
  is "deb fields" [ "$(dpkg-deb -f "$deb" Package Section Maintainer | tr '\n' ' ')" = "Package: libgrt-dev Section: libdevel Maintainer: grt developers " ]
  dpkg -x "$deb" "$scratch/deb"
  is "deb holds nothing outside usr" [ "$(ls "$scratch/deb")" = usr ]
  configure "$here/find_package" fp-deb -DCMAKE_PREFIX_PATH="$scratch/deb/usr" >/dev/null
  cmake --build "$scratch/fp-deb" >/dev/null
  judge "find_package deb" "$scratch/fp-deb/consumer" grt
  pc=$(dirname "$(find "$scratch/deb" -name grt.pc)")
  PKG_CONFIG_PATH=$pc make -s -C "$here/pkg_config" PC=grt OUT="$scratch/pc-deb"
  judge "pkg_config deb" "$scratch/pc-deb" grt
else
  echo "consumer deb: skipped, because dpkg-deb is missing"
fi

flags="-ffunction-sections -fdata-sections -Wl,--gc-sections" # which must not drop the reference
refused "asan program, plain library" grt_built_with_fsanitize_address $flags -fsanitize=address "$lib/libgrt.a"
refused "tsan program, plain library" grt_built_with_fsanitize_thread $flags -fsanitize=thread "$lib/libgrt.a"
refused "plain program, asan library" grt_built_without_fsanitize $flags "$lib/libgrt_asan.a" -lasan -lubsan
refused "plain program, tsan library" grt_built_without_fsanitize $flags "$lib/libgrt_tsan.a" -ltsan
sed 's/grt 0.1/grt 9.0/' "$here/find_package/CMakeLists.txt" >"$scratch/CMakeLists.txt"
if configure "$scratch" v9 -DCMAKE_PREFIX_PATH="$scratch/prefix" >/dev/null 2>&1; then bad "version 9.0 is refused"; else ok "version 9.0 is refused"; fi
if configure "$here/find_package" msan -DCMAKE_PREFIX_PATH="$scratch/prefix" -DVARIANT=msan >"$scratch/msan.log" 2>&1; then bad "variant msan is refused"
elif grep -q "installed without msan" "$scratch/msan.log"; then ok "variant msan is refused"; else bad "variant msan is refused"; fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
