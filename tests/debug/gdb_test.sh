#!/usr/bin/env bash
# gdb_test.sh PROGRAM SCRIPT - tools/gdb/grt_gdb.py on a live process and, where the kernel writes it here, on its core.
set -euo pipefail
program=$1 script=$2 dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ask=(-ex "source $script" -ex "info goroutines" -ex "goroutine all bt")
run() { GRT_PROCS=2 gdb -q -batch -iex "set auto-load safe-path /" "$@" 2>&1; }

run -ex run "${ask[@]}" "$program" >"$dir/live" </dev/null
files=("$dir/live")
(cd "$dir" && ulimit -c unlimited && GRT_PROCS=2 "$program" || true) 2>/dev/null
core=$(find "$dir" -name 'core*' | head -1)
if [ -n "$core" ]; then
  run "${ask[@]}" "$program" "$core" >"$dir/dead" </dev/null
  files+=("$dir/dead")
fi
for f in "${files[@]}"; do
  for want in '"receiver" \[chan receive on 0x' '"locker" \[mutex on 0x' '"selector" \[select on 0x[0-9a-f]* and 1 more\]' '\[running on processor' 'created at .*gdb_program.cpp:[0-9]' \
    '^#[0-9]* .* inner (c=' '^#[0-9]* .* outer (c=.*depth.*=40' '^#[0-9]* .* grt_start'; do
    grep -q "$want" "$f" || { echo "$(basename "$f"): no line with $want"; cat "$f"; exit 1; }
  done
  ! grep -n "Python Exception\|Error occurred\|corrupt stack" "$f" || exit 1
done
echo "${#files[@]} passed, 0 failed"
