// sched/monitor/deadlock.cpp - reports that all goroutines are asleep.
//
// The leader asks, when every M sleeps and no timer is set.
//
// A deadlock is reported only under two conditions. Every thread of the process must be an M or must block in grt: a
// thread that does anything else, a system call included, may still send; so may a timer. And this must hold at two
// looks, 100 ms apart, with no wake between them. debug/ writes the report (sched/core/ports.hpp).
#include <cstdlib>
#include <dirent.h>

#include <grt/runtime.hpp>

#include "base/check.hpp"
#include "sched/core/foreign.hpp"
#include "sched/core/pin.hpp"
#include "sched/core/poller.hpp"
#include "sched/core/ports.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/pace.hpp"
#include "sched/runtime/threads.hpp"
#include "sched/time/timers.hpp"

namespace grt {
namespace {
bool every_thread_waits_here() noexcept {
  unsigned blocked = foreign_blocked(), threads = 0;
  if (!blocked) return false; // in a deadlock at least main waits
  DIR* d = opendir("/proc/self/task");
  if (!d) return false;
  while (dirent* e = readdir(d)) threads += e->d_name[0] != '.';
  closedir(d);
  return threads == blocked + grt::threads();
}
} // namespace

bool deadlock_possible() noexcept { return foreign_blocked() > 0 && !current_poller().armed(); }

void deadlock_check(bool still_asleep) noexcept {
  // Used by the leader alone. A new leader starts over: it was awake in between.
  static std::uint64_t since, wakes;
  if (!still_asleep || adrift() || sleeping_ms() < n_made.load(std::memory_order_relaxed) ||
      injected.n.load(std::memory_order_relaxed) || timers_next() != wheel::never || current_poller().armed() ||
      !every_thread_waits_here()) {
    since = 0;
    return;
  }
  std::uint64_t now = now_ns(), epoch = wake_epoch();
  if (!since || epoch != wakes) {
    since = now;
    wakes = epoch;
    return;
  }
  if (now - since < pace.deadlock_ns.load(std::memory_order_relaxed)) return;
  claim_report();
  text_out(2).str("grt: fatal: all goroutines are asleep - deadlock!\n\n");
  report_waiting(2);
  std::_Exit(2);
}

} // namespace grt
