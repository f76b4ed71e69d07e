#!/usr/bin/env bash
# play_test.sh GRT_PLAY - lists, shows, runs and draws every lesson; judges output, figures, width, plainness and refusals.
set -uo pipefail
play=$1 passed=0 failed=0
export GRT_EXAMPLE_N=${GRT_EXAMPLE_N:-3000}
ok() { # name condition...
  local name=$1; shift
  if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}
within() { # low number high: all three are whole numbers of at most 9 digits, and the second lies between the others
  [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$1" -le "$2" ] && [ "$2" -le "$3" ]
}
# The figures of one lesson, from the two lines that end its output. Every number in them has to be a plausible one.
figures() { # lesson output least_goroutines most_goroutines
  local counts peak
  counts=$(sed -n 's/^  .* on \([0-9]*\) P, \([0-9]*\) switches, \([0-9]*\) steals, \([0-9]*\) wakes$/\1 \2 \3 \4/p' <<<"$2")
  peak=$(sed -n 's/^  peak \([0-9]*\) goroutines*; stacks: [0-9]* [KM]*B in [0-9]* windows*; memory +[0-9]* [KM]*B$/\1/p' <<<"$2")
  ok "$1 ends with one line of counts" [ "$(wc -w <<<"$counts")" -eq 4 ]
  read -r procs switches steals wakes <<<"$counts"
  ok "$1: $procs processors" within 1 "$procs" 1024
  ok "$1: $switches switches" within 1 "$switches" 10000000
  ok "$1: no more steals ($steals) than switches" within 0 "$steals" "$switches"
  ok "$1: $wakes wakes" within 0 "$wakes" 10000000
  ok "$1: peak $peak goroutines, not $3 to $4" within "$3" "$peak" "$4"
  ok "$1: no figure is too long to be true" [ -z "$(grep -E '^  (.* switches, |peak )' <<<"$2" | grep -E '[0-9]{10}')" ]
}
# Goroutines that a lesson has at most at once, main's included: least and most. What may end before the next begins varies.
declare -A peaks=([hello]="2 2" [interleave]="4 4" [anonymous]="2 3" [wait_group]="2 2" [quick_start]="2 5"
  [million]="$((GRT_EXAMPLE_N + 1)) $((GRT_EXAMPLE_N + 1))")

lessons=$("$play" | sed -n 's/^  \([a-z_]*\)$/\1/p')
ok "the tutorial begins with hello, interleave, anonymous" [ "$(head -3 <<<"$lessons" | tr '\n' ' ')" = "hello interleave anonymous " ]
ok "the list has at least 15 lessons" [ "$(wc -w <<<"$lessons")" -ge 15 ]
for lesson in $lessons; do
  out=$("$play" "$lesson" </dev/null 2>&1); status=$?
  ok "$lesson ends with 0" [ $status -eq 0 ]
  ok "$lesson shows its code" grep -q "int main() {" <<<"$out"
  ok "$lesson draws goroutines" grep -qE "^  G[0-9]+ .*[0-9]" <<<"$out"
  figures "$lesson" "$out" ${peaks[$lesson]:-2 50}
  ok "$lesson is plain in a pipe" [ -z "$(grep -P '[^\x09\x0a\x20-\x7e]' <<<"$out")" ]
  picture=$(sed -n '/-- what happened/,$p' <<<"$out")
  ok "$lesson's picture fits 80 columns" [ "$(awk '{ if (length > w) w = length } END { print w }' <<<"$picture")" -le 80 ]
done

# What the first lessons print.
says() { "$play" "$1" --short | sed -n '/-- output/,/ switches, /{/-- output/d;/ switches, /d;p}'; }
ok "hello calls say directly, then starts it" [ "$(says hello)" = $'Hello, called directly\nHello from a goroutine' ]
ok "anonymous gets name and age" [ "$(says anonymous | sort | tr '\n' ';')" = "Alice is 30 years old;Bob is 25 years old;" ]
spoken=$(says interleave)
ok "interleave: nine lines" [ "$(sort -u <<<"$spoken" | grep -cE '^(Hello|World|!) [123]$')" -eq 9 ]
# Nine lines of three goroutines, one after the other, would change the word twice.
ok "interleave: the lines interleave" [ "$(cut -d' ' -f1 <<<"$spoken" | uniq | wc -l)" -gt 3 ]

# All of them in one process: what a lesson leaves behind does not make the next one's figures implausible.
all=$("$play" --all --short </dev/null 2>&1); status=$?
ok "--all ends with 0" [ $status -eq 0 ]
ok "--all runs every lesson" [ "$(grep -c ' switches, ' <<<"$all")" -eq "$(wc -w <<<"$lessons")" ]
ok "--all: no figure is too long to be true" [ -z "$(grep -E '^  (.* switches, |peak )' <<<"$all" | grep -E '[0-9]{10}')" ]

refused() { # arguments...
  local err status
  err=$("$play" "$@" 2>&1 >/dev/null); status=$?
  [ $status -eq 2 ] && [ "$(wc -l <<<"$err")" -eq 1 ] && grep -q "valid: " <<<"$err"
}
ok "an unknown lesson is refused" refused no_such_lesson
ok "two lessons are refused" refused hello million
ok "an unknown flag is refused" refused --no-such-flag
ok "an unknown letter is refused" refused -x
ok "a bad width is refused" refused --width 3
ok "a width with a unit is refused" refused --width 80px
ok "a missing width is refused" refused --width
ok "a bad number is refused" refused --procs many
ok "a negative number is refused" refused --procs=-1
ok "--help ends with 0" "$play" --help >/dev/null
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
