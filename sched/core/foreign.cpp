// sched/core/foreign.cpp - see foreign.hpp.
#include "sched/core/foreign.hpp"

#include <memory>
#include <system_error>
#include <utility>

#include <grt/runtime.hpp>

#include "base/futex.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "sched/protocol/held.hpp"
#include "sched/protocol/look.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/runtime/thread_end.hpp"

namespace grt {
namespace {
spin_lock lock;
G* list;
thread_local G* mine;

std::atomic<std::uint32_t>& word(G* g) noexcept { return *reinterpret_cast<std::atomic<std::uint32_t>*>(&g->birth); }
} // namespace

// A forked child inherits the G of its parent's thread, which it cannot use; self() reports that.
G* foreign_known() noexcept { return forked.load(std::memory_order_relaxed) ? nullptr : mine; }

G* foreign_self() {
  if (mine) return mine;
  std::unique_ptr<g_ext> room(new (std::nothrow) g_ext);
  G* g = room && await_thread_end() ? g_alloc_anywhere() : nullptr;
  if (!g) throw std::system_error(ENOMEM, std::generic_category(), "grt: no memory for a waiting thread");
  g_ext* ext = room.release();
  san::acquire(g);
  g->ext = ext;
  ext->tid = static_cast<int>(syscall(SYS_gettid));
  g->id = 0;
  g->reason = wait_reason::none;
  g->pinned = false;
  g->birth = 0;
  protocol::is_entered<hardware>(g);
  hardware::store(g->kind, g_kind::foreign,
                  std::memory_order_release); // [LOOK-1] after all other fields that readers use
  held_guard hold(lock);
  ext->next_foreign = list; // not G::link, which code that wakes several at once uses
  list = g;
  return mine = g;
}

void foreign_end() noexcept {
  G* g = std::exchange(mine, nullptr);
  if (!g || forked.load(std::memory_order_relaxed)) return;
  {
    held_guard hold(lock);
    G** at = &list;
    while (*at != g) at = &(*at)->ext->next_foreign;
    *at = g->ext->next_foreign;
  }
  delete drop_ext(g);
  protocol::is_saved<hardware>(g); // the count of a free slot is even
  san::release(g);                 // as at the end of a goroutine
  g_free_anywhere(g);
}

void foreign_park(G* g, std::uintptr_t release, wait_reason why, const void* object) noexcept {
  if (!protocol::on_thread(g->seq) || on_signal_stack())
    die_in_handler(); // it waits already, so this is a signal handler
  g->ext->note = {object, arch::cycles()};
  arch::capture(g->ext->at);
  protocol::is_saved<hardware>(g);
  protocol::is_parking<hardware>(g, not_saved, why); // the slot may have been a goroutine's (scavenge.cpp, H4)
  protocol::foreign_publish<hardware>(word(g));
  if (release & 1) grt_commit(release);
  else reinterpret_cast<spin_lock*>(release)->unlock();
  let_loose();
  std::atomic_signal_fence(
      std::memory_order_seq_cst);      // [TIMER-1] our word before sleeps_until; the leader's membarrier is the fence
  timer_added(now_ns() + 100'000'000); // wakes a leader that sleeps for good, to look for deadlock
  {
    lift_halt goroutines_run;
    protocol::foreign_wait<hardware>(word(g));
  }
  protocol::is_entered<hardware>(g);
  g->reason = wait_reason::none;
  san::acquire(g);
}

void foreign_ready(G* g) noexcept {
  record(me(), trace::kind::ready, 0, me() ? me()->g->id : 0);
  protocol::foreign_ready<hardware>(word(g));
}

unsigned foreign_blocked() noexcept {
  held_guard hold(lock);
  unsigned n = 0;
  for (G* g = list; g; g = g->ext->next_foreign) n += word(g).load(std::memory_order_relaxed) == 1;
  return n;
}

bool foreign_blocks(int tid) noexcept {
  held_guard hold(lock);
  for (G* g = list; g; g = g->ext->next_foreign)
    if (g->ext->tid == tid && word(g).load(std::memory_order_relaxed) == 1) return true;
  return false;
}

void detail::may_wait() { self(); }

G* self() {
  if (M* m = me()) return m->g;
  start_runtime();
  return foreign_self();
}

} // namespace grt
