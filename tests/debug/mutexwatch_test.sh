#!/usr/bin/env bash
# mutexwatch_test.sh LIBRARY PROGRAM... - what is said of each program with the library preloaded, and that without it nothing is; the
# program ends the same. On one processor, two and eight, and with another thread after every switch.
set -uo pipefail
library=$1 dir=$(mktemp -d) passed=0 failed=0
shift
trap 'rm -rf "$dir"' EXIT
ok() { # name condition...
  local name=$1; shift
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $setting: $name"; fi
}
# Where each function is told to hold its lock: why, what, and the first function of the list that is not a wrapper.
told="told_recv:chan receive:mutex told_sleep:sleep:mutex told_yield:yield:mutex told_read:chan receive:rwlock told_write:chan receive:rwlock
told_trylock:chan receive:mutex told_blocking:blocking:mutex told_pin:pin:mutex told_unpin:unpin:mutex told_end:its end:mutex
told_after_wait:chan receive:mutex told_unlocked_elsewhere:chan receive:mutex told_then:chan receive:mutex"
told=${told//chan receive/chan_receive} told=${told//its end/its_end}
reports() { # function: those that say it locked
  awk -v f="$1" '/^grt: mutexwatch/ { head = $0; part = "" } /^  locked at/ { part = "locked" } /^  held at/ { part = "held" }
    part == "locked" && $2 ~ "^" f "[+]" { print head; part = "" }' "$dir/err"
}
held_in() { # function: some report says that it gave way there
  awk -v f="$1" '/^  held at/ { part = 1 } /^  locked at/ { part = 0 } part && $2 ~ "^" f "[+]" { found = 1 } END { exit !found }' "$dir/err"
}
for program in "$@"; do for setting in GRT_PROCS=1 GRT_PROCS=2 GRT_PROCS=8 "GRT_PROCS=2 GRT_DEBUG=migrate"; do
  # shellcheck disable=SC2086
  env $setting LD_PRELOAD="$library" "$program" >"$dir/out" 2>"$dir/err"; status=$?
  setting="$(basename "$program") $setting"
  before=$failed
  ok "the program's own status" [ $status -eq 7 ]
  ok "the program's own output" [ "$(cat "$dir/out")" = done ]
  n=0
  for t in $told; do
    IFS=: read -r f why kind <<<"$t"
    n=$((n + 1))
    ok "$f: once in three rounds" [ "$(reports "$f" | wc -l)" -eq 1 ]
    ok "$f: $kind, ${why/_/ }" [ "$(reports "$f" | grep -c "^grt: mutexwatch: goroutine [0-9]* .*(\(${why/_/ }\|its processor went to others\)) while it holds $kind 0x[0-9a-f]*: ")" -eq 1 ]
    [ "$f" = told_end ] || ok "$f: where it gave way" held_in "$f"
  done
  ok "nothing else" [ "$(grep -c "^grt: mutexwatch" "$dir/err")" -eq $n ]
  ok "nobody who is quiet" [ "$(grep -c "  quiet_" "$dir/err")" -eq 0 ]
  ok "its name" grep -q "goroutine [0-9]* \[second\] gives its thread away (sleep)" "$dir/err"
  ok "where it was created" [ "$(grep -c "^  created at .*mutexwatch_program.cpp:[0-9]" "$dir/err")" -eq $n ]
  [ $failed -eq $before ] || cat "$dir/err"
done; done
setting=none
needed=$(LC_ALL=C readelf -dW "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
ok "the library needs only libc and the unwinder, not $needed" [ "$needed" = "libc.so.6 libgcc_s.so.1 " ]
"$1" >"$dir/out" 2>"$dir/err"; status=$?
ok "without the library: the same status" [ $status -eq 7 ]
ok "without the library: silence" [ ! -s "$dir/err" ]
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
