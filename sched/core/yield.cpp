// sched/core/yield.cpp - yield: the goroutine goes to the tail of its P's queue, and the next one runs.
#include "sched/core/switching.hpp"
#include "sched/monitor/handoff.hpp"

namespace grt {

// GRT_DEBUG=migrate. Caller: inside. No other M may take s before its registers are saved, so the switch releases
// the lock of the global queue.
static void yield_migrating(M* m, G* s) noexcept {
  record_switch(m, s, m->g0p, trace::kind::yield);
  fp_leave(s);
  m->p->tick++;
  injected.lock.lock();
  global_append(injected.woken, s);
  switch_to(m, s, m->g0p, release_of(&injected.lock));
  fp_arrive(s);
}

static GRT_NOINLINE void yield_slow(M* m) noexcept {
  P* p = m->p;
  G* s = m->g;
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed);
  if (GRT_UNLIKELY(hooked)) {
    watch_mutexes(s, "yield");
    if (hooked & hook_migrate) return yield_migrating(m, s);
  }
  p->queue.push(s);
  G* n = pick_or_g0(m, p, s);
  if (n == s) { // alone. A goroutine that polls keeps its P from looking idle, so look for work at times
    if ((++p->empty & 63) == 0) {
      if (n_made.load(std::memory_order_relaxed) > 1) hunt(m);
    }
    return leave(m);
  }
  record_switch(m, s, n, trace::kind::yield);
  if (GRT_UNLIKELY(hooked & hook_fp)) fp_leave(s);
  switch_to(m, s, n, no_lock(m));
  if (GRT_UNLIKELY(hooked & hook_fp)) fp_arrive(s);
}

static GRT_NOINLINE void yield_asked(M* m) noexcept { enter_slow(m) ? yield_slow(m) : void(reacquire(m)); }

// n was taken out of runq, and the caller was not put in. A goroutine must not switch to n; g0 may.
static GRT_NOINLINE void yield_to_g0(M* m, G* n) noexcept {
  m->p->queue.put_back(n);
  yield_slow(m);
}

// The common case takes one goroutine out of one ring and puts one in, so the ring cannot overflow. Every exit is a
// tail call, so no register is saved twice.
GRT_NOINLINE void yield_here(M* m) noexcept {
  if (GRT_UNLIKELY(!protocol::enter<hardware>(m))) return yield_asked(m);
  P* p = m->p;
  G* s = m->g;
  if (GRT_UNLIKELY(!p->queue.can_rotate() || s->pinned || ((p->tick + 1) & 63) == 0 ||
                   hooks.load(std::memory_order_relaxed)))
    return yield_slow(m);
  p->tick++;
  // A thief may have put a goroutine that never ran into runq. It needs a window, which may have to be made.
  auto [n, done] = p->queue.rotate(s, [](G* out) { return !out->sp || needs_g0(out); });
  if (GRT_UNLIKELY(!done)) return yield_to_g0(m, n);
  switch_to(m, s, n, no_lock(m));
}

} // namespace grt
