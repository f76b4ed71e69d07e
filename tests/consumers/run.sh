#!/usr/bin/env bash
# Builds this tree with every variant in an empty directory, installs it, and builds and runs a user's program against it and against the
# tree in each way there is; what does not fit together must not link. run.sh SCRATCH_DIR
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
refused() { # name symbol flags...: does not link, for that symbol
  if ${CXX:-c++} -std=c++20 -I"$scratch/prefix/include" "$here/main.cpp" -o "$scratch/refused" "${@:3}" -pthread >"$scratch/link.log" 2>&1; then bad "$1"
  elif grep -q "undefined reference to .$2" "$scratch/link.log"; then ok "$1"
  else cat "$scratch/link.log"; bad "$1"; fi
}

configure "$here/../.." grt -DGRT_INSTALL_VARIANTS=ON -DGRT_WERROR=ON -DGRT_BUILD_TESTS=OFF -DGRT_BUILD_EXAMPLES=OFF -DGRT_BUILD_TOOLS=OFF >/dev/null
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
for variant in grt: asan:address tsan:thread; do
  configure "$here/add_subdirectory" as-${variant%:*} -DGRT_WERROR=ON -DGRT_SANITIZE=${variant#*:} >/dev/null
  cmake --build "$scratch/as-${variant%:*}" >/dev/null
  judge "add_subdirectory ${variant%:*}" "$scratch/as-${variant%:*}/consumer" ${variant%:*}
done

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
