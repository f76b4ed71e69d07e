// sched/sched.cpp - park, ready, yield, and what a new stack runs first.
#include "sched/sched.hpp"

#include <cstring>
#include <cxxabi.h>
#include <sched.h>
#include <utility>

#include "base/futex.hpp"
#include "sched/faults.hpp"
#include "sched/foreign.hpp"
#include "sched/handoff.hpp"
#include "sched/hooks.hpp"
#include "sched/protocol_held.hpp"
#include "sched/protocol_look.hpp"

namespace grt {

std::atomic<std::uint32_t> hooks{0};
global_queue injected;
arch::fp_env fp_default;

namespace {
// What the hooks ask for before a goroutine gives way.
GRT_NOINLINE void about_to_switch(G* self, wait_reason why) noexcept {
  if (hooks.load(std::memory_order_relaxed) & hook_canary) check_canary(self);
  watch_mutexes(self, trace::to_string(why));
  fp_leave(self);
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
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed);
  if (GRT_LIKELY(!(hooked & (hook_trace | hook_canary)))) return;
  if (hooked & hook_canary) check_frames(to);
  if (!(hooked & hook_trace)) return;
  record_slow(m, what, from->id, 0, arg);
  if (to != m->g0p) record_slow(m, trace::kind::run, to->id, 0, 0);
}
} // namespace

#if GRT_ASAN
namespace {
std::size_t fake_stack_bytes(G* g) noexcept {
  stack::bounds b{};
  stack::find(g->stk - 1, b);
  return san::fake_stack_bytes(static_cast<std::size_t>(b.high - b.low));
}
} // namespace
#endif

#if GRT_SANITIZED
// Told first, switched after; the window is bound here because ASan wants its bounds before the switch.
void switch_to(M* m, G* self, G* to, std::uintptr_t release) noexcept {
  if (!to->sp) grt_bind(m->p, to);
#if GRT_ASAN
  if (!to->sp) to->san = nullptr;
  stack::bounds b{};
  if (to == m->g0p) {
    b.low = m->stack_low;
    b.high = m->stack_high;
  } else {
    stack::find(to->stk - 1, b);
  }
  void* parked = self->san;
  bool dies = self == &m->dead;
  if (dies && parked) __lsan_unregister_root_region(parked, fake_stack_bytes(self));
  __sanitizer_start_switch_fiber(dies ? nullptr : &self->san, b.low, static_cast<std::size_t>(b.high - b.low));
  if (!dies && self->san && !parked && self->stk) // its first: frames of a parked goroutine stand there
    __lsan_register_root_region(self->san, fake_stack_bytes(self));
#endif
#if GRT_TSAN
  if (void* dead = m->dead_fiber) {
    m->dead_fiber = nullptr;
    san::destroy_fiber(dead);
  }
  if (self == &m->dead) m->dead_fiber = __tsan_get_current_fiber();
  if (!to->sp) { // made in the name of a fiber that has seen nothing: its maker's past would become its own, and hide
                 // races with it
    __tsan_switch_to_fiber(m->maker_fiber, 1);
    stack::bounds t{};
    stack::find(to->stk - 1, t);
    san::forget_accesses(t.low, t.high);
    to->san = san::make_fiber();
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

// Handlers of signals that wait. Two kinds would corrupt: one that has interrupted the scheduler or a bracket, where
// `in` is 1, which a park never finds otherwise; and one on the thread's alternate stack, whose frames the next handler
// would overwrite. A goroutine may stand on a stack that the program has made (a coroutine's), so an address outside
// the window only leads to the question.
GRT_NOINLINE void check_signal_stack() noexcept {
  if (on_signal_stack()) die_in_handler();
}

// Not instrumented: the note is to stand on the goroutine's own stack.
#define GRT_PARKS __attribute__((no_sanitize("address")))
static GRT_PARKS GRT_INLINE void park_here(M* m, G* self, std::uintptr_t release, wait_reason why, const void* object,
                                           bool hooked) noexcept {
  park_note note{object, m->p->cycles0}; // a clock would cost more than the park
  check_stack_of(self, &note);
  __asm__ volatile("" : : "r"(&note) : "memory");
  self->note = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(&note));
  protocol::is_parking<hardware>(self, not_saved, why);
  G* n = m->g0p; // where goroutines stand still
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
  // Read once: what begins to watch from here on sees the next park.
  std::uint32_t unusual = hooks.load(std::memory_order_relaxed) | m->in.load(std::memory_order_relaxed);
  if (GRT_UNLIKELY(unusual)) return park_slow(m, self, release, why, object);
  park_here(m, self, release, why, object, false);
}

static GRT_NOINLINE void inject_held(G* g) noexcept {
  holding h;
  inject(g);
}

// An event is recorded inside the bracket, or as the last thing: record() may take a lock, and so get a P elsewhere.
template <bool tail> static GRT_NOINLINE void ready_unusual(M* m, G* g) noexcept {
  if (g->kind == g_kind::foreign) return foreign_ready(g);
  protocol::is_runnable<hardware>(g, wait_reason::none);
  if (!m || migrating()) {
    record(m, trace::kind::ready, g->id, m ? m->g->id : 0);
    return inject_held(g);
  }
  m = enter_here(m);
  record(m, trace::kind::ready, g->id, m->g->id);
  if constexpr (tail) {
    push_ready(m->p, g);
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
  protocol::is_runnable<hardware>(g, wait_reason::none);
  m = enter_here(m);
  put_next(m->p, g);
  leave(m);
}

void ready_tail(G* g) noexcept {
  san::release(g);
  ready_unusual<true>(me(), g);
}

static void append(global_queue::list& l, G* g) noexcept { // injected.lock held
  g->link = nullptr;
  *l.tail = g;
  l.tail = &g->link;
  l.pushed++;
  injected.n.fetch_add(1, std::memory_order_relaxed);
}

void inject_inside(G* g) noexcept {
  spin_guard hold(injected.lock);
  append(g->sp ? injected.woken : injected.to_start, g);
}

// No lock, and no look at who sleeps, which takes one: sysmon does that.
void inject_low(G* g) noexcept {
  G* head = injected.returned.load(std::memory_order_relaxed);
  do g->link = head;
  while (!injected.returned.compare_exchange_weak(head, g, std::memory_order_release,
                                                  std::memory_order_relaxed)); // [RETURN-1]
  injected.n.fetch_add(1, std::memory_order_relaxed);
  sysmon_rouse();
}

// injected.lock held. Oldest first, behind those that are to start.
static void take_returned() noexcept {
  G *g = injected.returned.exchange(nullptr, std::memory_order_acquire), *list = nullptr; // [RETURN-1]
  while (g) {
    G* next = std::exchange(g->link, list);
    list = std::exchange(g, next);
  }
  while (list) {
    G* next = list->link;
    injected.n.fetch_sub(1, std::memory_order_relaxed);
    append(injected.to_start, list);
    list = next;
  }
}

void inject_last(G* g) noexcept {
  {
    spin_guard hold(injected.lock);
    append(injected.to_start, g);
  }
  notify();
}

void inject(G* g) noexcept {
  inject_inside(g);
  notify();
}

// Under GRT_DEBUG=migrate: the first that ran elsewhere last time. If the front is none, others get 10 ms to come and
// take it; they may all be busy.
static G** first_to_move(M* m, G** front, std::uint64_t& refused) noexcept {
  auto moves = [m](G* g) { return !g->sp || g->pinned || g->last != static_cast<std::uint8_t>(m->id); };
  if (moves(*front) || n_procs.load(std::memory_order_relaxed) < 2) return refused = 0, front;
  std::uint64_t now = arch::cycles(), patience = 10000 * cycles_per_us.load(std::memory_order_relaxed);
  if (!refused) refused = now;
  if (now - refused > patience) return refused = 0, front;
  G** at = front;
  for (int i = 0; *at && i < 64; at = &(*at)->link, i++)
    if (moves(*at)) return at;
  return nullptr;
}

// injected.lock held.
static G* pop_from(M* m, global_queue::list& l) noexcept {
  if (!l.head) return nullptr;
  G** at = GRT_UNLIKELY(migrating()) ? first_to_move(m, &l.head, m->refused[&l == &injected.to_start]) : &l.head;
  if (!at) return nullptr;
  G* g = *at;
  *at = g->link;
  if (!*at) l.tail = at;
  l.popped++;
  injected.n.fetch_sub(1, std::memory_order_relaxed);
  return g;
}

G* global_pop_of(M* m, global_queue::list& l) noexcept {
  spin_guard hold(injected.lock);
  return pop_from(m, l);
}

G* global_pop(M* m, bool may_start) noexcept {
  if (!injected.n.load(std::memory_order_relaxed)) return nullptr;
  bool refused;
  {
    spin_guard hold(injected.lock);
    if (GRT_UNLIKELY(injected.returned.load(std::memory_order_relaxed) != nullptr)) take_returned();
    bool start = may_start && (injected.start_next ^= 1);
    G* g = pop_from(m, start ? injected.to_start : injected.woken);
    if (!g && may_start) g = pop_from(m, start ? injected.woken : injected.to_start);
    if (g) return g;
    refused = migrating() && (injected.woken.head || (may_start && injected.to_start.head));
  }
  if (refused) { // the others may be asleep
    notify();
    sched_yield();
  }
  return nullptr;
}

// Inside. Nobody may take it before its registers are saved, so the switch releases the queue's lock.
static void yield_migrating(M* m, G* s) noexcept {
  record_switch(m, s, m->g0p, trace::kind::yield);
  fp_leave(s);
  m->p->tick++;
  injected.lock.lock();
  append(injected.woken, s);
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
  push_ready(p, s);
  G* n = pick_or_g0(m, p, s);
  if (n == s) { // alone: polling hides that this P is idle, so look for work now and then
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

// n has been taken from `ready`, with nothing put there yet, and may not be switched to from here.
static GRT_NOINLINE void yield_to_g0(M* m, G* n) noexcept {
  if (!(n->sp ? m->p->ready : m->p->fresh).push(n)) inject_inside(n);
  yield_slow(m);
}

// The common case touches one ring: one goroutine out, one in, so it cannot overflow. Every way out of here is a tail
// call, so that nothing is saved twice.
GRT_NOINLINE void yield_here(M* m) noexcept {
  if (GRT_UNLIKELY(!protocol::enter<hardware>(m))) return yield_asked(m);
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
  if (GRT_UNLIKELY(!n->sp || needs_g0(n))) // fresh and taken over by a thief: its window may have to be made
    return yield_to_g0(m, n);
  r.slots[t & r.mask] = s;
  r.tail = t + 1;
  switch_to(m, s, n, no_lock(m));
}

} // namespace grt

using namespace grt;

extern "C" {
__thread M* grt_tls_m __attribute__((tls_model("initial-exec")));
__thread hold_words grt_tls_hold __attribute__((tls_model("initial-exec")));

char* grt_bind(P* p, G* g) {
  if (!g->stk) g->stk = stack::get(p->stacks);
  if (bool valgrind = hooks.load(std::memory_order_relaxed) & hook_valgrind; GRT_UNLIKELY(GRT_ASAN || valgrind)) {
    stack::bounds b{};
    stack::find(g->stk - 1, b);
    san::open_window(b.low, g->stk, b.high, valgrind);
  }
  return g->stk;
}

void grt_commit(std::uintptr_t release) {
  auto* r = reinterpret_cast<commit_record*>(release & ~std::uintptr_t{1});
  r->fn(r);
}
}

namespace {
// The goroutine's destructors that run last.
GRT_NOINLINE void last_words(G* g) noexcept {
  g->ext->values.destroy();
  if (g->ext->fp_own) arch::fp_load(fp_default);
}

// The goroutine that runs here has ended. Returns, outside, when `may_stay` and its window has gone to the next one.
GRT_INLINE void end_goroutine([[maybe_unused]] bool may_stay) noexcept {
  M* m = me();
  G* g = m->g;
  if (GRT_UNLIKELY(g->ext != nullptr)) {
    last_words(g);
    m = me();
  }
  std::uint32_t hooked = hooks.load(std::memory_order_relaxed);
  if (GRT_UNLIKELY(hooked)) {
    if (hooked & hook_canary) check_overrun(g);
    watch_mutexes(g, "its end");
  }
  m = enter_here(m); // an end needs a P: its caches take back what the goroutine had
  P* p = m->p;
  g_ext* ext = g->ext ? drop_ext(g) : nullptr;
  bool sized = ext && ext->stack_max, pinned = g->pinned;
  // Who deletes ext, outside the bracket, and closes the window once we have left it.
  bool by_g0 = GRT_ASAN || ext || (hooked & (hook_valgrind | hook_canary)); // canary: g0 looks before the next one runs
  san::release(g); // to the next in this slot: chan and sync, which TSan watches, write into it. It hides a race
                   // between those two
  record(m, trace::kind::exit, g->id); // first: who sees it counted may end the recording
  count_one(p->exited);
  char* stk = g->stk;
#if GRT_ASAN
  m->dead.stk = stk;
  m->dead.san = g->san;
#endif
  if (GRT_UNLIKELY(ext != nullptr)) san::release(ext);
  if (GRT_UNLIKELY(pinned)) san::release(m); // destructors of thread_local objects, as the thread ends
  if (GRT_UNLIKELY(by_g0)) std::memset(g->closure, 0, sizeof g->closure); // leak searches begin in the slots, too
  g->kind = g_kind::free;
  std::atomic_thread_fence(std::memory_order_release); // [LOOK-2] a reader that sees the even count sees `free`
  g->seq += protocol::seq_one;                         // a slot that is free, or has not run yet, has an even count
  g_put(p, g);
  G* n = pinned ? nullptr : pick(p);
  if (GRT_UNLIKELY(pinned)) m->fate = keeper_fate::ends;
  if (GRT_UNLIKELY(n && needs_g0(n))) {
    m->lend = n;
    n = nullptr;
  }
#if !GRT_SANITIZED
  if (GRT_LIKELY(may_stay && n && !n->sp && !n->stk && !by_g0)) { // the window goes to the next one without a switch
    n->stk = stk;
    n->seq += protocol::seq_one; // it stands on a thread, and g, which ended, has counted itself out
    m->g = n;
    record(m, trace::kind::run, n->id);
    return leave(m);
  }
#endif
  if (!n) n = m->g0p;
  // Still standing on it. The cache is this P's alone and the switch comes before the next get - unless n is fresh:
  // then its window must be another one. Then, and where there is more to do, g0 puts ours away and runs n.
  if (by_g0 || (!n->sp && n != m->g0p)) {
    m->late = {stk, sized, ext};
    if (n != m->g0p) m->lend = std::exchange(n, m->g0p);
  } else {
    stack::put(p->stacks, stk);
  }
  if (n != m->g0p) record(m, trace::kind::run, n->id);
  switch_to(m, &m->dead, n, no_lock(m));
  __builtin_unreachable();
}
} // namespace

extern "C" {
void grt_gmain(std::uintptr_t release) {
  if (release & 1) grt_commit(release);
  else __atomic_store_n(reinterpret_cast<std::uint32_t*>(release), 0, __ATOMIC_RELEASE); // [SPIN-1]
#if GRT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  M* m = me();
  leave(m);
  for (;;) {
    G* g = me()->g;
    san::acquire(g);
    if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & hook_fp)) fp_arrive(g);
    try {
      g->run(g->closure);
    } catch (abi::__forced_unwind&) { // no other exception sees this handler: an uncaught one leaves the stack intact
      end_unwound();
    }
    end_goroutine(true);
  }
}

GRT_NOINLINE void grt_end() {
  end_goroutine(false);
  __builtin_unreachable();
}
}
