// sched/core/loop.cpp - the run loop of an M, on its own stack (g0).
#include <utility>

#include "sched/core/pin.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/monitor/scavenge.hpp"
#include "sched/runtime/faults.hpp"
#include "sched/runtime/halt.hpp"
#include "sched/runtime/threads.hpp"

namespace grt {

// g0 never leaves its thread: m is still right.
bool back_on_g0(M* m) noexcept {
  if (g_ext* ext = std::exchange(m->late.ext, nullptr)) {
    san::acquire(ext);
    delete ext;
  }
  bool mine = enter(m);
  if (char* top = std::exchange(m->late.top, nullptr)) {
    if (bool valgrind = hooks.load(std::memory_order_relaxed) & hook_valgrind; GRT_UNLIKELY(GRT_ASAN || valgrind)) {
      stack::bounds b{};
      stack::find(top - 1, b);
      san::close_window(b.low, b.high, valgrind);
    }
    if (m->late.sized || !mine) stack::put_sized(top);
    else stack::put(m->p->stacks, top);
  }
  return mine;
}

// g0 searches, switches to the goroutine it has found, and searches again. It is always inside, except for the moment
// after a switch back to it, which has cleared `in`.
GRT_NOINLINE void mloop(M* m) noexcept {
  for (;;) {
    G* g = m->lend ? std::exchange(m->lend, nullptr) : search(m);
    GRT_DCHECK(m == me() && m->g == m->g0p && g->kind == g_kind::goroutine, "the run loop is off its stack");
    if (GRT_UNLIKELY(halted.load(std::memory_order_relaxed))) await_lift(m);
    if (GRT_UNLIKELY(needs_g0(g))) {
      if (g->held && left_to_scavenger(g)) continue;
      if (g->pinned) {
        lend(m, g);
        continue;
      }
    }
    g->last = static_cast<std::uint8_t>(m->id);
    about_to_run(m, g);
    switch_to(m, &m->g0, g, no_lock(m));
    if (GRT_UNLIKELY(!back_on_g0(m)) && !rejoin(m) && !rest(m)) return thread_leave();
  }
}

} // namespace grt
