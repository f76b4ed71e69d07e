// sched/core/switching.hpp - the last steps before a switch, shared by park, yield and the end of a goroutine.
#pragma once
#include <cstdint>

#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "sched/runtime/faults.hpp"

namespace grt {

// Does what the hooks require before a goroutine leaves its thread.
inline GRT_NOINLINE void about_to_switch(G* self, wait_reason why) noexcept {
  if (hooks.load(std::memory_order_relaxed) & hook_canary) check_canary(self);
  watch_mutexes(self, trace::to_string(why));
  fp_leave(self);
}

// Caller: inside. Returns what runs after the current goroutine: the next goroutine, or g0.
GRT_INLINE G* pick_or_g0(M* m, P* p, G* self) noexcept {
  if (GRT_UNLIKELY(self->pinned)) return m->g0p;
  G* n = pick(p);
  if (GRT_UNLIKELY(!n)) return m->g0p;
  if (GRT_UNLIKELY(needs_g0(n))) {
    m->lend = n;
    return m->g0p;
  }
  if (GRT_UNLIKELY(!n->sp && !n->stk && !stack::has(p->stacks))) { // g0 makes the window: not under the caller's lock
    p->queue.push_fresh(n);
    return m->g0p;
  }
  return n;
}

GRT_INLINE void record_switch(M* m, G* from, G* to, trace::kind what, std::uint32_t arg = 0) noexcept {
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed);
  if (GRT_LIKELY(!(hooked & (hook_trace | hook_canary)))) return;
  if (hooked & hook_canary) check_frames(to);
  if (!(hooked & hook_trace)) return;
  record_slow(m, what, from->id, 0, arg);
  if (to != m->g0p) record_slow(m, trace::kind::run, to->id, 0, 0);
}

} // namespace grt
