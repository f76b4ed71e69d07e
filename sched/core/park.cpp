// sched/core/park.cpp - park and ready: a goroutine stops until another one, a thread or a timer calls ready() on it.
#include "sched/core/foreign.hpp"
#include "sched/core/switching.hpp"
#include "sched/protocol/held.hpp"
#include "sched/protocol/look.hpp"

namespace grt {

// Ends the program if a signal handler parks where that would corrupt memory. There are two such cases. The handler
// has interrupted the scheduler or a bracket; then `in` is 1, which a park never finds otherwise (park_slow). Or the
// handler runs on the alternate stack of the thread, whose frames the next handler would overwrite (this function).
// A goroutine may also run on a stack of the program's own (a coroutine's). So an address outside the window is not
// an error by itself, only a reason to call this function.
GRT_NOINLINE void check_signal_stack() noexcept {
  if (on_signal_stack()) die_in_handler();
}

// Not instrumented by ASan, because the note must be on the goroutine's own stack.
#define GRT_PARKS __attribute__((no_sanitize("address")))
static GRT_PARKS GRT_INLINE void park_here(M* m, G* self, std::uintptr_t release, wait_reason why, const void* object,
                                           bool hooked) noexcept {
  GRT_DCHECK(self == m->g && self->kind == g_kind::goroutine && protocol::on_thread(self->seq),
             "parks in another's name");
  GRT_DCHECK(self->reason == wait_reason::none, "parks twice");
  GRT_DCHECK(grt_tls_hold.holds.load(std::memory_order_relaxed), "parks without a hold");
  park_note note{object, m->p->cycles0}; // not the present time: to read a clock would cost more than the park
  check_stack_of(self, &note);
  __asm__ volatile("" : : "r"(&note) : "memory");
  self->note = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(&note));
  protocol::is_parking<hardware>(self, not_saved, why);
  G* n = m->g0p; // without a P, or while goroutines stand still
  bool has_p = GRT_LIKELY(enter(m));
  let_loose(); // [HOLD-1] H2
  if (has_p) n = pick_or_g0(m, m->p, self);
  if (hooked && has_p) record_switch(m, self, n, trace::kind::park, static_cast<std::uint32_t>(why));
  else if (hooked) record(m, trace::kind::park, self->id, 0, static_cast<std::uint32_t>(why));
  switch_to(m, self, n, release);
  san::acquire(self);
}

static GRT_PARKS GRT_NOINLINE void park_slow(M* m, G* self, std::uintptr_t release, wait_reason why,
                                             const void* object) noexcept {
  if (m->in.load(std::memory_order_relaxed)) die_in_handler();
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed);
  about_to_switch(self, why);
  park_here(m, self, release, why, object, true);
  if (hooked & hook_fp) fp_arrive(self);
}

GRT_PARKS GRT_NOINLINE void park(G* self, std::uintptr_t release, wait_reason why, const void* object) noexcept {
  M* m = me();
  if (GRT_UNLIKELY(!m)) return foreign_park(self, release, why, object);
  // Read once: a hook that is set from here on sees the next park.
  std::uint32_t unusual = hooks.load(std::memory_order_relaxed) | m->in.load(std::memory_order_relaxed);
  if (GRT_UNLIKELY(unusual)) return park_slow(m, self, release, why, object);
  park_here(m, self, release, why, object, false);
}

static GRT_NOINLINE void inject_held(G* g) noexcept {
  holding h;
  inject(g);
}

// record() may take a lock. Outside of a bracket that may move the caller to another M, so there it must not be
// followed by a use of m.
template <bool tail> static GRT_NOINLINE void ready_unusual(M* m, G* g) noexcept {
  if (g->kind == g_kind::foreign) return foreign_ready(g);
  becomes_runnable(g);
  if (!m || migrating()) {
    record(m, trace::kind::ready, g->id, m ? m->g->id : 0);
    return inject_held(g);
  }
  m = enter_here(m);
  record(m, trace::kind::ready, g->id, m->g->id);
  if constexpr (tail) {
    m->p->queue.push(g);
    notify();
  } else {
    put_next(m->p, g);
  }
  leave(m);
}

GRT_NOINLINE void ready(G* g) noexcept {
  san::release(g);
  M* m = me();
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed) & (hook_trace | hook_migrate);
  if (GRT_UNLIKELY(!m || hooked || g->kind == g_kind::foreign)) return ready_unusual<false>(m, g);
  becomes_runnable(g);
  m = enter_here(m);
  put_next(m->p, g);
  leave(m);
}

void ready_on_g0(M* m, G* g) noexcept {
  san::release(g);
  if (g->kind == g_kind::foreign) return ready(g);
  becomes_runnable(g);
  record(m, trace::kind::ready, g->id);
  if (migrating()) inject(g);
  else m->p->queue.offer_next(g); // it waited for this moment, so it goes first, as in Go
}

void ready_tail(G* g) noexcept {
  san::release(g);
  ready_unusual<true>(me(), g);
}

} // namespace grt
