// sched/monitor/scavenge.cpp - grown stacks of parked goroutines shrink, and free windows lose their pages.
//
// A pass has four stages:
//   1  Each P is told to keep fewer windows. Windows of the pool that have not been used since the last pass lose
//      their pages and page tables (stack/reclaim.cpp).
//   2  One look at the arenas finds the deep windows: those with more than their two upper pages in memory.
//   3  The goroutines that are parked on deep windows are held, 64 at a time. The pages below each one's frame are
//      dropped, and the goroutine is let go.
//   4  Of the free Gs that have not been used since the last pass, full pages are dropped (slab.cpp).
//
// To *hold* a goroutine means to keep every M from switching to it. The waker pays nothing for that: it makes the
// goroutine runnable as ever. The M that picks the goroutine tests G::held together with `pinned`, as one word, and
// leaves goroutines with either of them set to g0. g0 leaves a held goroutine to the scavenger by one CAS, and looks
// for something else.
//
//  G::held            set by              meaning                           leaves by
//  not_held           -                   may run                           scavenger: -> held_by_scavenger
//  held_by_scavenger  scavenger           an M that picks it must not       scavenger: -> not_held
//                                         run it                            g0, by CAS: -> held_and_wanted
//  held_and_wanted    g0 that picked it   is in no queue                    scavenger: -> not_held, and injects it
//
//   park:       sp = not_saved; reason = why [HELD-1]; ...; the switch: registers, sp = saved; releases the lock
//   ready:      reason = none; push it           picker: pop it; read held; run it
//   scavenger:  held = held_by_scavenger; membarrier [HELD-2]; read reason [HELD-1]; read sp; drop; held = not_held
//
// Why no M switches to a goroutine while its pages are dropped:
// H1  If the scavenger reads `reason` != none after the membarrier, then no M switches to the goroutine before `held`
//     is not_held again. For the park that set this reason there is no ready() that the scavenger could have missed:
//     a picker that had read held == not_held did so before its core passed the membarrier, and after the ready()
//     that it follows from. The scavenger would have seen the `none` of that ready().
// H2  Then sp is one of two values. It is not_saved if the goroutine is on its way into the switch; the scavenger
//     leaves it alone. Otherwise it is the saved sp of this very park, because `sp = not_saved` came before `reason`,
//     and no later park can begin (H1).
// H3  Below the saved sp less the red zone nothing is alive, and no code runs there. The switch stores sp only after
//     its stack pointer has left that stack (arch/*/switch.S). So grt_bind, and handlers of signals that interrupt a
//     switch, run while sp is still not_saved, or on the stack of the next goroutine. One page below the page of sp
//     is kept for the frames that come next.
// H4  The scavenger may also set `held` of a running goroutine or of a reused slot. Then reason is none, and the G is
//     let go. Or a foreign thread waits with this G. Then its sp is not_saved, stored because the slot may still have
//     the sp of a goroutine that is gone.
//
// The goroutine's own thread does nothing for this. A goroutine is held for some microseconds: it is let go as soon
// as its own pages are dropped.
//
// Rejected:
//   a lock in G                              every switch would take it
//   a flag that the waker sets               an atomic operation on every wake
//   the goroutine drops pages as it wakes    a goroutine that sleeps for hours would hold its pages for hours
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
// Below many_windows, a look at all goroutines costs so little that it is never left out.
constexpr unsigned batch = 64, many_windows = 10'000;

// The state of the pass. Only the thread that holds `at_work` may use it.
spin_lock at_work;
enum class stage { idle, free_windows, deep_windows, parked, slots } now_at = stage::idle;
G* cursor;
bool unsparing;                // this pass spares no free window or slot for being young
std::uint64_t dropped, before; // windows and pages of Gs that were dropped: in this pass, and when its stage began
std::uint64_t begun;           // passes so far

std::uint64_t own_cpu_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// A stage that costs much and is worth it only if it drops something: the look at parked goroutines (50 ms for a
// million), and the sort of slots. After each pass in which it dropped nothing it is left out, for 1, 3, 7 ...
// passes. The most is 7 passes, or one pass for each ms that it took, up to 63: then it takes a thousandth of the
// time.
struct costly {
  bool now = true; // it takes part in this pass
  unsigned skip = 0, vain = 0;
  std::uint64_t ns = 0;

  void begin(bool all) noexcept {
    begun++;
    now = all || !skip;
    if (!now) skip--;
  }
  template <class F> auto timed(F f) noexcept {
    std::uint64_t t0 = own_cpu_ns(); // CPU time: waiting for a core does not count
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

// The part of g's stack that may be dropped. A hint, unless g is held.
bool dead_part(const G* g, stack::span& out) noexcept {
  if (*const_cast<const volatile g_kind*>(&g->kind) != g_kind::goroutine) return false;
  void* sp = protocol::saved_sp<hardware>(g, not_saved, wait_reason::none);
  const char* top = peek(g->stk); // belongs to the same park as sp
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

// Shrinks one batch of parked goroutines. Returns false once it has looked at all of them.
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

// TSan must be told of this lock: it sees the calls of memset and the like in here, but not the lock.
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

// Returns false once the pass is over.
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
  std::uint64_t end = own_cpu_ns() + budget_ns; // CPU time: on a busy machine wall-clock time would leave nothing
  if (now_at == stage::idle) begin(false);
  bool more;
  while ((more = step()) && own_cpu_ns() < end) {
  }
  pass p = more ? pass::under_way : looks.now && sorts.now ? pass::whole : pass::partial;
  end_work();
  return p;
}

void scavenge_all() noexcept {
  if (!slab_begin() || forked.load(std::memory_order_relaxed)) return; // a thread of the parent may hold `at_work`
  if (M* m = me()) {
    m = enter_here(m);
    stack::give_back(m->p->stacks);
    leave(m);
  }
  // The lock is released between steps. The caller may lose its P and its priority between two steps, and must not
  // keep sysmon from its work meanwhile. sysmon may do some of the steps.
  std::uint64_t mine = 0;
  for (bool more = true; more;) {
    holding h;
    while (!begin_work()) sched_yield();
    if (mine) more = begun == mine && step();
    else if (now_at != stage::slots || !step()) { // a sort under way ends first: its slots are in no list
      begin(true);
      mine = begun;
    }
    end_work();
  }
}

} // namespace grt
