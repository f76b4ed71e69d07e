// sched/deadlock.cpp - all goroutines asleep. Called by the leading sleeper when every M sleeps and no timer is set.
//
// Reported only when every thread of the process is an M or blocks in grt, in two looks 100 ms apart with no wake
// between.
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <unistd.h>

#include <grt/runtime.hpp>

#include "base/check.hpp"
#include "sched/foreign.hpp"
#include "sched/handoff.hpp"
#include "sched/pin.hpp"
#include "sched/sched.hpp"
#include "sched/slab.hpp"
#include "sched/timers.hpp"

namespace grt {
namespace {
constexpr unsigned most = 256;

bool every_thread_waits_here() noexcept {
  int tids[most];
  unsigned blocked = foreign_blocked(tids, most), threads = 0;
  if (!blocked) return false; // main at least would have to wait
  DIR* d = opendir("/proc/self/task");
  if (!d) return false;
  while (dirent* e = readdir(d)) threads += e->d_name[0] != '.';
  closedir(d);
  return threads == blocked + grt::threads();
}
} // namespace

bool deadlock_possible() noexcept {
  int tid;
  return foreign_blocked(&tid, 1) > 0;
}

void deadlock_check(bool still_asleep) noexcept {
  static std::uint64_t since, wakes; // the leader's alone; a new leader begins anew, since it was awake in between
  if (!still_asleep || adrift() || sleeping_ms() < n_made.load(std::memory_order_relaxed) ||
      injected.n.load(std::memory_order_relaxed) || timers_next() != wheel::never || !every_thread_waits_here()) {
    since = 0;
    return;
  }
  std::uint64_t now = now_ns(), epoch = wake_epoch();
  if (!since || epoch != wakes) {
    since = now;
    wakes = epoch;
    return;
  }
  if (now - since < 100'000'000) return;
  text_out t(2);
  t.str("grt: fatal: all goroutines are asleep - deadlock!\n\n");
  for (G* g = slab_begin(); g < slab_end(); g++) {
    if (g->reason == wait_reason::none || (g->kind != g_kind::goroutine && g->kind != g_kind::foreign)) continue;
    if (g->kind == g_kind::foreign) t.str("thread ").dec(static_cast<unsigned>(g->ext->tid));
    else t.str("goroutine ").dec(g->id);
    if (g->ext && g->ext->name[0]) t.str(" \"").str(g->ext->name).str("\"");
    t.str(" [").str(trace::to_string(g->reason)).str("]");
    if (g->kind == g_kind::goroutine && g->line)
      t.str(" created at ").str(static_cast<const char*>(g->site)).str(":").dec(g->line);
    t.str("\n");
  }
  t.flush();
  std::_Exit(2);
}

} // namespace grt
