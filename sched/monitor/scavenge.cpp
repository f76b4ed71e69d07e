// sched/monitor/scavenge.cpp - grown stacks of parked goroutines shrink, and free windows lose their pages.
//
// A pass: (1) processors are told to put by fewer windows; the pool's windows that nobody has needed since the last
// pass lose their pages and page tables (stack/reclaim.cpp); (2) one look at the arenas finds the windows that are
// deep; (3) of the goroutines parked on those, 64 at a time are held, the pages below each one's frame dropped, and let
// go; (4) of the free Gs that nobody has needed since the last pass, full pages are dropped (slab.cpp).
//
// To hold a goroutine is to keep everybody from switching to it. The waker pays nothing: it makes the goroutine
// runnable as ever. Whoever picks it tests G::held in the word in which it tests `pinned` anyway, and leaves both to
// g0, which leaves a held one to the scavenger by one CAS and looks for something else.
//
//  held     set by                  meaning                                leaves by
//  nobody   -                       may run                                scavenger: -> claimed
//  claimed  scavenger               whoever picks it must not run it       scavenger: -> nobody; g0 (CAS): -> wanted
//  wanted   g0 that picked it       stands in no queue                     scavenger: -> nobody, and injects it
//
//   park:       sp = not_saved; reason = why [HELD-1]; ...; the switch: registers, sp = saved; releases the lock
//   ready:      reason = none; push it           picker: pop it; read held; run it
//   scavenger:  held = claimed; membarrier [HELD-2]; read reason [HELD-1]; read sp; drop; held = nobody
//
// H1  Read `reason` != none after the membarrier => nobody switches to it before `held` is nobody again. The park that
//     set this reason has no ready() yet that the scavenger could have missed: a picker that had read held == nobody
//     did so before its core passed the membarrier, and after the ready() it follows from, whose `none` would be seen.
// H2  Then sp is either not_saved (it is on its way into the switch: leave it alone) or the saved sp of this very park,
//     since `sp = not_saved` came before `reason`, and no later park can begin (H1).
// H3  Below the saved sp less the red zone nothing is alive, and nobody runs there. The switch stores sp only after its
//     stack pointer has left that stack (arch/*/switch.S): grt_bind, and handlers of signals that interrupt a switch,
//     run while sp is still not_saved, or on the next goroutine's stack. One page below sp's is kept for the frames
//     that come next.
// H4  A claim may also meet a goroutine that runs, or a slot that is reused: then reason is none, and it is let go. Or
//     a foreign thread waits with it, and its sp is not_saved: what stood there before is of a goroutine that is gone.
//
// Nothing is asked of a goroutine's own thread, and a claim lasts some microseconds a goroutine: it is let go as soon
// as its own pages are dropped. Rejected: a lock in G (every switch would take it); a flag the waker sets (an atomic
// operation on every wake); leaving it to the goroutine when it wakes (who sleeps for hours holds its pages for hours).
#include "sched/monitor/scavenge.hpp"

#include <algorithm>
#include <ctime>
#include <sched.h>

#include "base/check.hpp"
#include "base/futex.hpp"
#include "sched/core/sched.hpp"
#include "sched/goroutine/slab.hpp"
#include "sched/protocol/held.hpp"
#include "stack/reclaim.hpp"

namespace grt {
namespace {
constexpr unsigned batch = 64, many_windows = 10'000;

// One pass; of the one who holds `at_work`.
spin_lock at_work;
enum class stage { idle, free_windows, deep_windows, parked, slots } now_at = stage::idle;
G* cursor;
bool unsparing;                // this pass
std::uint64_t dropped, before; // windows and pages of Gs: in this pass, and when its stage began
std::uint64_t begun;           // passes

std::uint64_t own_cpu_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// A stage that is worth its time where it finds something: parked goroutines (50 ms for a million), and the sort of
// slots. In vain, it is left out 1, 3, 7 ... times; 7 at most, or so that it takes a thousandth of the time.
struct costly {
  bool now = true; // in this pass
  unsigned skip = 0, vain = 0;
  std::uint64_t ns = 0;

  void begin(bool all) noexcept {
    begun++;
    now = all || !skip;
    if (!now) skip--;
  }
  template <class F> auto timed(F f) noexcept {
    std::uint64_t t0 = own_cpu_ns(); // what it takes, not how long it has no core
    auto r = f();
    ns += own_cpu_ns() - t0;
    return r;
  }
  void ended(bool worth) noexcept {
    unsigned most = static_cast<unsigned>(std::clamp<std::uint64_t>(ns / 1'000'000, 7, 63));
    skip = vain = worth ? 0 : std::min(vain * 2 + 1, most);
    ns = 0;
  }
} looks, sorts;

template <class T> T peek(const T& x) noexcept { return __atomic_load_n(&x, __ATOMIC_RELAXED); }

// What may be dropped of g's stack; racy unless it is held.
bool dead_part(const G* g, stack::span& out) noexcept {
  if (*const_cast<const volatile g_kind*>(&g->kind) != g_kind::goroutine) return false;
  void* sp = protocol::saved_sp<hardware>(g, not_saved, wait_reason::none);
  const char* top = peek(g->stk); // of the same park, as sp is
  return top && sp && sp != not_saved && stack::below(top, static_cast<const char*>(sp), out);
}

void shrink(G* const* gs, unsigned n) noexcept {
  protocol::hold<hardware>(gs, n);
  for (unsigned i = 0; i < n; i++) {
    stack::span dead;
    if (dead_part(gs[i], dead)) dropped += stack::drop(dead);
    if (protocol::let_go_of<hardware>(gs[i])) inject(gs[i]);
  }
}

// A batch of parked goroutines. false: all were looked at.
bool shrink_some() noexcept {
  G *gs[batch], *end = slab_end();
  unsigned n = 0, looked = 0;
  for (; cursor < end && n < batch && looked < 16384; cursor++, looked++) {
    stack::span dead;
    if (dead_part(cursor, dead) && stack::deep(peek(cursor->stk))) gs[n++] = cursor;
  }
  if (n) shrink(gs, n);
  return cursor < end;
}

// Told to TSan, which sees the calls of memset and the like in here, but not the lock.
bool begin_work() noexcept {
  bool mine = at_work.try_lock();
  if (mine) san::acquire(&at_work);
  return mine;
}
void end_work() noexcept {
  san::release(&at_work);
  at_work.unlock();
}

void begin(bool all) noexcept {
  stack::reclaim_begin(all);
  dropped = 0;
  looks.begin(all);
  sorts.begin(all);
  unsparing = all;
  now_at = stage::free_windows;
}

void begin_sort() noexcept {
  before = dropped;
  now_at = sorts.now && slab_sort_begin(unsparing) ? stage::slots : stage::idle;
}

// false: the pass is over.
bool step() noexcept {
  switch (now_at) {
  case stage::free_windows:
    if (stack::drop_free(dropped) || stack::drop_lists() || stack::drop_tables()) return true;
    before = dropped;
    if (looks.now) now_at = stage::deep_windows;
    else begin_sort();
    return now_at != stage::idle;
  case stage::deep_windows:
    if (!looks.timed(stack::find_deep)) {
      cursor = slab_begin();
      now_at = stage::parked;
    }
    return true;
  case stage::parked:
    if (looks.timed(shrink_some)) return true;
    looks.ended(dropped != before || stack::read_counts().opened < many_windows);
    begin_sort();
    return now_at != stage::idle;
  case stage::slots:
    if (sorts.timed([] { return slab_sort(dropped); })) return true;
    sorts.ended(dropped != before);
    [[fallthrough]];
  case stage::idle: now_at = stage::idle; return false;
  }
  return false;
}
} // namespace

bool left_to_scavenger(G* g) noexcept { return protocol::leave_to_holder<hardware>(g); }

pass scavenge(std::uint64_t budget_ns) noexcept {
  if (!slab_begin()) return pass::whole;
  if (!begin_work()) return pass::partial;
  std::uint64_t end = own_cpu_ns() + budget_ns; // of its own: on a busy machine it would get nowhere
  if (now_at == stage::idle) begin(false);
  bool more;
  while ((more = step()) && own_cpu_ns() < end) {
  }
  pass p = more ? pass::under_way : looks.now && sorts.now ? pass::whole : pass::partial;
  end_work();
  return p;
}

void scavenge_all() noexcept {
  if (!slab_begin() || forked.load(std::memory_order_relaxed)) return; // a thread of the parent's may have `at_work`
  if (M* m = me()) {
    m = enter_here(m);
    stack::give_back(m->p->stacks);
    leave(m);
  }
  // Step by step, as sysmon does, which may take some of them over: the caller may lose its P in between, and its
  // priority, and would keep sysmon from its work.
  std::uint64_t mine = 0;
  for (bool more = true; more;) {
    holding h;
    while (!begin_work()) sched_yield();
    if (mine) more = begun == mine && step();
    else if (now_at != stage::slots || !step()) { // what is half sorted stands in no list
      begin(true);
      mine = begun;
    }
    end_work();
  }
}

} // namespace grt
