#!/usr/bin/env bash
# play_test.sh GRT_PLAY - lists, shows, runs and draws every lesson; judges width, plainness and refusals.
set -uo pipefail
play=$1 passed=0 failed=0
ok() { # name condition...
  local name=$1; shift
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}
lessons=$("$play" | sed -n 's/^  \([a-z_]*\)$/\1/p')
ok "the list has at least 12 lessons" [ "$(wc -w <<<"$lessons")" -ge 12 ]
for lesson in $lessons; do
  out=$("$play" "$lesson" </dev/null 2>&1); status=$?
  ok "$lesson ends with 0" [ $status -eq 0 ]
  ok "$lesson shows its code" grep -q "int main() {" <<<"$out"
  ok "$lesson draws goroutines" grep -qE "^  G[0-9]+ .*[0-9]" <<<"$out"
  ok "$lesson says what it cost" grep -qE "switches, [0-9]{1,12} steals" <<<"$out"
  ok "$lesson counts what can be" [ "$(grep 'switches, ' <<<"$out" | grep -cE '[0-9]{13}')" -eq 0 ]
  ok "$lesson is plain in a pipe" [ -z "$(grep -P '[^\x09\x0a\x20-\x7e]' <<<"$out")" ]
  picture=$(sed -n '/-- what happened/,$p' <<<"$out")
  ok "$lesson's picture fits 80 columns" [ "$(awk '{ if (length > w) w = length } END { print w }' <<<"$picture")" -le 80 ]
done
refused() { # arguments...
  local err status
  err=$("$play" "$@" 2>&1 >/dev/null); status=$?
  [ $status -eq 2 ] && [ "$(wc -l <<<"$err")" -eq 1 ] && grep -q "valid: " <<<"$err"
}
ok "an unknown lesson is refused" refused no_such_lesson
ok "an unknown flag is refused" refused --no-such-flag
ok "a bad width is refused" refused --width 3
ok "a bad number is refused" refused --procs many
ok "--help ends with 0" "$play" --help >/dev/null
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
