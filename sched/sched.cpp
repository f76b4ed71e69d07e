// sched/sched.cpp - park, ready, yield, and what a new stack runs first.
#include "sched/sched.hpp"

#include "base/futex.hpp"
#include "sched/foreign.hpp"
#include "sched/hooks.hpp"

namespace grt {

std::atomic<std::uint32_t> hooks{0};
global_queue injected;

namespace {
void check_canary(G* g) noexcept {
  if ((hooks.load(std::memory_order_relaxed) & hook_canary) && g->stk && !stack::canary_intact(g->stk))
    fatal("stack overflow found by its canary: raise it with grt::attr::stack_max or GRT_STACK_MAX. goroutine ", g->id);
}

// Inside. What runs after the current goroutine gives way.
GRT_INLINE G* pick_or_g0(M* m, P* p, G* self) noexcept {
  if (GRT_UNLIKELY(self->pinned)) return m->g0p;
  G* n = pick(p);
  if (GRT_UNLIKELY(!n)) return m->g0p;
  if (GRT_UNLIKELY(needs_g0(n))) {
    m->lend = n;
    return m->g0p;
  }
  if (GRT_UNLIKELY(!n->sp && !n->stk && !stack::has(p->stacks))) { // a window must be made: not under the caller's lock
    if (!p->fresh.push(n)) inject_inside(n);
    return m->g0p;
  }
  return n;
}

GRT_INLINE void record_switch(M* m, G* from, G* to, trace::kind what, std::uint32_t arg = 0) noexcept {
  if (GRT_LIKELY(!(hooks.load(std::memory_order_relaxed) & hook_trace))) return;
  record_slow(m, what, from->id, 0, arg);
  if (to != m->g0p) record_slow(m, trace::kind::run, to->id, 0, 0);
}
} // namespace

#if GRT_SANITIZED
// Told first, switched after; the window is bound here because ASan wants its bounds before the switch.
void switch_to(M* m, G* self, G* to, std::uintptr_t release) noexcept {
  if (!to->sp) grt_bind(m->p, to);
#if GRT_ASAN
  stack::bounds b{};
  if (to == m->g0p) {
    b.low = m->stack_low;
    b.high = m->stack_high;
  } else {
    stack::find(to->stk - 1, b);
  }
  __sanitizer_start_switch_fiber(self == &m->dead ? nullptr : &self->san, b.low,
                                 static_cast<std::size_t>(b.high - b.low));
#endif
#if GRT_TSAN
  if (void* dead = m->dead_fiber) {
    m->dead_fiber = nullptr;
    __tsan_destroy_fiber(dead);
  }
  if (self == &m->dead) m->dead_fiber = __tsan_get_current_fiber();
  if (!to->sp) { // made in the name of a fiber that has seen nothing: its maker's past would become its own, and hide
                 // races with it
    __tsan_switch_to_fiber(m->maker_fiber, 1);
    stack::bounds t{};
    stack::find(to->stk - 1, t);
    san::forget_accesses(t.low, t.high);
    to->san = __tsan_create_fiber(0);
  }
  __tsan_switch_to_fiber(to->san, 1);
#endif
  grt_switch(m, self, to, release);
#if GRT_ASAN
  __sanitizer_finish_switch_fiber(self->san, nullptr, nullptr);
#endif
}
#endif

void unlock_far_side(spin_lock& l) noexcept { __atomic_store_n(&l.word, 0, __ATOMIC_RELEASE); } // [SPIN-1]

GRT_NOINLINE void park(G* self, std::uintptr_t release, wait_reason why) noexcept {
  M* m = me();
  if (GRT_UNLIKELY(!m)) return foreign_park(self, release, why);
  if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed))) check_canary(self);
  self->sp = not_saved;
  __atomic_store(&self->reason, &why, __ATOMIC_RELEASE); // [HELD-1]
  enter(m);
  G* n = pick_or_g0(m, m->p, self);
  record_switch(m, self, n, trace::kind::park, static_cast<std::uint32_t>(why));
  switch_to(m, self, n, release);
  san::acquire(self);
}

GRT_NOINLINE void ready(G* g) noexcept {
  san::release(g);
  if (GRT_UNLIKELY(g->kind == g_kind::foreign)) return foreign_ready(g);
  g->reason = wait_reason::none;
  M* m = me();
  record(m, trace::kind::ready, g->id, m ? m->g->id : 0);
  if (GRT_UNLIKELY(!m)) return inject(g);
  enter(m);
  put_next(m->p, g);
  leave(m);
}

void ready_tail(G* g) noexcept {
  san::release(g);
  if (GRT_UNLIKELY(g->kind == g_kind::foreign)) return foreign_ready(g);
  g->reason = wait_reason::none;
  M* m = me();
  record(m, trace::kind::ready, g->id, m ? m->g->id : 0);
  if (GRT_UNLIKELY(!m)) return inject(g);
  enter(m);
  push_ready(m->p, g);
  notify();
  leave(m);
}

void inject_inside(G* g) noexcept {
  g->link = nullptr;
  spin_guard hold(injected.lock);
  *injected.tail = g;
  injected.tail = &g->link;
  injected.n.fetch_add(1, std::memory_order_relaxed);
}

void inject(G* g) noexcept {
  inject_inside(g);
  notify();
}

G* global_pop() noexcept {
  if (!injected.n.load(std::memory_order_relaxed)) return nullptr;
  spin_guard hold(injected.lock);
  G* g = injected.head;
  if (g) {
    injected.head = g->link;
    if (!injected.head) injected.tail = &injected.head;
    injected.n.fetch_sub(1, std::memory_order_relaxed);
  }
  return g;
}

static GRT_NOINLINE void yield_slow(M* m) noexcept {
  P* p = m->p;
  G* s = m->g;
  push_ready(p, s);
  G* n = pick_or_g0(m, p, s);
  if (n == s) { // alone: polling hides that this P is idle, so look for work now and then
    if ((++p->empty & 63) == 0) {
      if (n_made.load(std::memory_order_relaxed) > 1) hunt(m);
    }
    return leave(m);
  }
  record_switch(m, s, n, trace::kind::yield);
  switch_to(m, s, n, no_lock(m));
}

// The common case touches one ring: one goroutine out, one in, so it cannot overflow.
GRT_NOINLINE void yield_here(M* m) noexcept {
  enter(m);
  P* p = m->p;
  G* s = m->g;
  ring& r = p->ready;
  std::uint32_t h = r.head, t = r.tail;
  bool slow = (reinterpret_cast<std::uintptr_t>(p->next) | (p->fresh.tail ^ p->fresh.head)) || h == t;
  if (GRT_UNLIKELY(slow || s->pinned || ((p->tick + 1) & 63) == 0 || hooks.load(std::memory_order_relaxed)))
    return yield_slow(m);
  p->tick++;
  prefetch_ahead(r);
  G* n = r.slots[h & r.mask];
  r.head = h + 1;
  r.slots[t & r.mask] = s;
  r.tail = t + 1;
  if (GRT_UNLIKELY(!n->sp || needs_g0(n))) { // fresh and taken over by a thief: its window may have to be made
    r.tail = t;
    if (!(n->sp ? r : p->fresh).push(n)) inject_inside(n);
    return yield_slow(m);
  }
  switch_to(m, s, n, no_lock(m));
}

} // namespace grt

using namespace grt;

extern "C" {
__thread M* grt_tls_m __attribute__((tls_model("initial-exec")));

char* grt_bind(P* p, G* g) {
  if (!g->stk) g->stk = stack::get(p->stacks);
  if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & hook_valgrind)) {
    stack::bounds v{};
    stack::find(g->stk - 1, v);
    san::mark_undefined(v.low, g->stk);
  }
#if GRT_SANITIZED
  stack::bounds b{};
  stack::find(g->stk - 1, b);
  san::unpoison(b.low, static_cast<std::size_t>(b.high - b.low));
#endif
  return g->stk;
}

void grt_commit(std::uintptr_t release) {
  auto* r = reinterpret_cast<commit_record*>(release & ~std::uintptr_t{1});
  r->fn(r);
}

void grt_gmain(std::uintptr_t release) {
  if (release & 1) grt_commit(release);
  else __atomic_store_n(reinterpret_cast<std::uint32_t*>(release), 0, __ATOMIC_RELEASE); // [SPIN-1]
#if GRT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  M* m = me();
  leave(m);
  for (;;) {
    G* g = m->g;
    san::acquire(g);
    g->run(g->closure);
    m = me();
    g = m->g;
    if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed))) check_canary(g);
    bool sized = false, pinned = g->pinned;
    if (GRT_UNLIKELY(g->ext != nullptr)) {
      sized = g->ext->stack_max != 0;
      delete g->ext;
      g->ext = nullptr;
      m = me();
    }
    san::release(g); // to the next in this slot: chan and sync, which TSan watches, write into it. It hides a race
                     // between those two
    enter(m);
    P* p = m->p;
    p->exited.store(p->exited.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    record(m, trace::kind::exit, g->id);
    char* stk = g->stk;
    g_free(p, g);
    G* n = pinned ? nullptr : pick(p);
    if (GRT_UNLIKELY(pinned)) m->fate = keeper_fate::ends;
    if (GRT_UNLIKELY(n && needs_g0(n))) {
      m->lend = n;
      n = nullptr;
    }
#if !GRT_SANITIZED
    if (GRT_LIKELY(n && !n->sp && !n->stk && !sized)) { // the window goes to the next one without a switch
      n->stk = stk;
      m->g = n;
      record(m, trace::kind::run, n->id);
      leave(m);
      continue;
    }
#endif
    // Still standing on it. The cache is this P's alone and the switch comes before the next get - unless n is fresh:
    // then its window must be another one. That, and a window of another class, g0 puts away, now: M::late holds one.
    if (sized || (n && !n->sp)) {
      m->late = {stk, sized};
      if (n) m->lend = n;
      n = nullptr;
    } else {
      stack::put(p->stacks, stk);
    }
    if (!n) n = m->g0p;
    else record(m, trace::kind::run, n->id);
    switch_to(m, &m->dead, n, no_lock(m));
    __builtin_unreachable();
  }
}
}
