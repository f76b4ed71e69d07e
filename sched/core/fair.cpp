// sched/core/fair.cpp - bounds how long a runnable goroutine waits.
//
// pick() runs the newest first: the goroutine in run_next, then those just started. That keeps trees of
// goroutines in cache and few stacks in use, but the oldest could wait for ever. So g0 chooses instead
// from time to time. A turn is one choice of what to run. A front is the oldest goroutine of a queue.
// A goroutine is fresh if it has never run. There are three occasions:
//
//   every 64 turns      g0 looks around (look_around): the front of the global queue and the front of
//                       runq get a turn. Of four looks, two ask the global queue first, one asks runq
//                       only, and one lets a goroutine run first that a timer has just woken.
//   the end of a slice  The front of every queue runs once, before anything else (front_due): of runq,
//                       of fresh, and of the two lists of the global queue. A slice ends when a
//                       goroutine has waited at a front for 10 ms (sysmon then requests a reschedule),
//                       when the P was handed off, or after slice_turns turns. The goroutine in run_next
//                       goes to the tail of runq, so a chain of hand-overs shares one slice.
//   a crowd             More than `crowd` goroutines on this P are fresh. Then the fresh ones get as
//                       many turns as there are of them, newest first. Meanwhile a goroutine in run_next
//                       goes to the tail of runq, and runq waits. After that the front of runq runs, and
//                       the next crowd may begin.
//
// F1  At the end of a slice each front that is not empty runs before the next slice can end, if their
//     turns are short.
// F2  If each turn fills a slice, one front runs in each slice, and it is one of the oldest. At the end of
//     every slice the P notes where its queues end; this note is a seal. The goroutines before the oldest
//     seal run first, and the queues take turns; then those before the next seal. So a goroutine waits for
//     those that are runnable at the first seal behind it, one slice each. A goroutine that has run is
//     behind that seal when it comes back.
//     There are at most seals_most seals. While there are as many, the P adds one only after an old one
//     was passed. This costs about one slice more in seals_most.
//     If pick() has taken a goroutine from the end of fresh, a new one in its place counts as that one.
//     A goroutine that a timer has just woken runs before the fronts, and they follow in the same slice.
//     If it used the whole slice, no other may do so until nobody has waited for more than one end of a
//     slice.
// F3  A P that has more than its share of the runnable goroutines moves the oldest of them to the global
//     queue at the end of a slice. So no P has many more than another. Thieves do not see to that: while
//     no M is idle there are no thieves.
// F4  A crowd is finite: it takes as many turns as there were goroutines when it began. Those that they
//     start meanwhile wait for the next crowd. So the others wait for no more turns than there are
//     runnable goroutines.
// F5  A goroutine that starts many yields in go(): see next_ids() in spawn.cpp. A P asks for goroutine
//     ids at every 1,024th spawn at the latest, so at most crowd + 1,024 wait when the crowd begins. From
//     then on it asks at every 16th. If a slice ends at that moment, the spawner itself may be the front
//     that runs: then 16 more wait.
//
// docs/scheduler.md derives the bounds; tests/sched/fairness_test.cpp counts them.
//
// Rejected: first in, first out for all that have waited for a slice. A tree of 1,000,000 goroutines has
// 60 waiting, and each of them starts a subtree: after four slices the tree is breadth first.
// Rejected: the oldest of fresh every 1,024 turns. It has the same effect, later.
// Rejected: an age in each goroutine. It costs a store at every yield.
#include "sched/core/fair.hpp"

#include <algorithm>
#include <utility>

#include "sched/core/sched.hpp"

namespace grt {
namespace {
enum : unsigned { of_runq = run_queue::of_runq, of_fresh = run_queue::of_fresh, of_woken, of_to_start, n_fronts };
static_assert(n_fronts == P::fronts);
constexpr unsigned all_fronts = (1u << n_fronts) - 1, slice_begins = 1u << n_fronts;
constexpr std::uint32_t share_least = 8, share_most = 128;

global_queue::list& global_list(unsigned front) noexcept {
  return front == of_woken ? injected.woken : injected.to_start;
}

using extent = run_queue::extent;
extent extent_of(const P* p, unsigned front) noexcept {
  if (front == of_runq || front == of_fresh) return p->queue.extent_of(static_cast<run_queue::part>(front));
  const global_queue::list& l = global_list(front);
  std::uint32_t popped = racy_read(l.popped); // before `pushed`: without the lock, both may grow
  return {popped, racy_read(l.pushed)};
}
bool before(std::uint32_t a, std::uint32_t b) noexcept { return static_cast<std::int32_t>(a - b) < 0; }

G* pop(M* m, unsigned front) noexcept {
  if (front == of_runq || front == of_fresh) return m->p->queue.pop_oldest(static_cast<run_queue::part>(front));
  return global_pop_of(m, global_list(front));
}

std::uint64_t turns(const P* p) noexcept { return p->tick - p->skipped; }

G* ready_front(P* p) noexcept {
  if (!p->queue.size(run_queue::of_runq)) return nullptr;
  p->tick++;
  return p->queue.pop_oldest(run_queue::of_runq);
}

// F3.
void share(P* p) noexcept {
  unsigned procs = n_procs.load(std::memory_order_relaxed), made = n_made.load(std::memory_order_acquire); // [PROCS-1]
  if (procs < 2) return;
  std::uint64_t here = surplus(p), all = here + injected.n.load(std::memory_order_relaxed);
  for (unsigned i = 0; i < made; i++) {
    P* q = all_p[i].load(std::memory_order_relaxed);
    if (q != p) all += q->queue.racy_surplus();
  }
  std::uint64_t fair = std::max<std::uint64_t>(all / procs + 1, share_least);
  if (here <= fair) return;
  for (std::uint64_t n = std::min<std::uint64_t>(here - fair, share_most); n; n--)
    inject_inside(p->queue.pop_to_share());
  notify();
}

void crowd_begins(P* p) noexcept {
  std::uint32_t n = p->queue.size(run_queue::of_fresh);
  p->crowd_until = turns(p) + n + n / 8 + 64; // the rest: turns for the global queue or for the end of a slice
  p->queue.prefer_fresh(true);
}

void crowd_ends(P* p) noexcept {
  p->crowd_until = 0;
  p->queue.prefer_fresh(false);
}

void slice_ends(P* p) noexcept {
  if (!(p->due & slice_begins)) count_one(p->slices); // otherwise nothing has run since the last slice ended
  p->due = all_fronts | slice_begins;
}

// F2. Returns which of these fronts are before the oldest seal that is not passed; 0: none.
unsigned oldest_of(P* p, const extent (&at)[n_fronts]) noexcept {
  // Do not wait for goroutines that pick() has taken from the end of fresh since.
  for (unsigned k = 0; k < p->seals; k++) {
    std::uint32_t& end = p->seal[(p->first_seal + k) % P::seals_most][of_fresh];
    if (before(at[of_fresh].tail, end)) end = at[of_fresh].tail;
  }
  for (; p->seals; p->seals--, p->first_seal++) {
    const std::uint32_t* seal = p->seal[p->first_seal % P::seals_most];
    unsigned fronts = 0;
    for (unsigned i = 0; i < n_fronts; i++)
      if (at[i].head != at[i].tail && before(at[i].head, seal[i])) fronts |= 1u << i;
    if (fronts) return fronts;
  }
  return 0;
}
} // namespace

void turn(P* p) noexcept {
  slice_ends(p);
  skip_ticks(p, 63 - (p->tick & 63)); // g0 makes the next choice
}

G* front_due(M* m, bool fired) noexcept {
  P* p = m->p;
  bool first = p->due & slice_begins, starts = first || p->fired_first;
  G* woken = nullptr;
  if (first) {
    p->due = all_fronts;
    p->slice_began = turns(p);
    if (p->seals <= 1) p->fired_long = false;
    else if (p->fired_first) p->fired_long = true; // the goroutine had the last slice for itself
    if (fired && !p->fired_long) woken = p->queue.take_next();
    if (p->queue.has_next()) p->queue.push(p->queue.take_next());
    share(p);
  }
  p->fired_first = woken;
  extent at[n_fronts];
  for (unsigned i = 0; i < n_fronts; i++) at[i] = extent_of(p, i);
  unsigned oldest = 0;
  if (starts) oldest = oldest_of(p, at);
  if (first) {
    if (p->seals < P::seals_most) {
      std::uint32_t* seal = p->seal[(p->first_seal + p->seals++) % P::seals_most];
      for (unsigned i = 0; i < n_fronts; i++) seal[i] = at[i].tail;
    }
    if (!oldest) oldest = oldest_of(p, at);
  }
  if (woken) return p->tick++, woken;
  while (p->due) {
    unsigned among = p->due & oldest ? p->due & oldest : p->due, i = p->last_front;
    do i = (i + 1) % n_fronts;
    while (!(among & 1u << i));
    p->due &= ~(1u << i);
    if (at[i].head == at[i].tail) continue;
    G* g = pop(m, i);
    if (!g) continue;
    if (starts) p->last_front = i;
    p->tick++;
    return g;
  }
  return nullptr;
}

G* look_around(M* m, bool fired) noexcept {
  P* p = m->p;
  if (GRT_UNLIKELY(turns(p) - p->slice_began >= slice_turns)) {
    slice_ends(p);
    return front_due(m, fired);
  }
  unsigned look = (p->tick >> 6) & 3;
  if (!(look & 1))
    if (G* g = global_pop(m)) return p->tick++, g;
  if (GRT_UNLIKELY(p->crowd_until)) {
    if (turns(p) < p->crowd_until && p->queue.size(run_queue::of_fresh)) return nullptr;
    crowd_ends(p);
    return ready_front(p);
  }
  if (GRT_UNLIKELY(p->queue.size(run_queue::of_fresh) > crowd)) return crowd_begins(p), nullptr;
  return look == 1 && fired && p->queue.has_next() ? nullptr : ready_front(p);
}

bool crowded(P* p) noexcept {
  if (GRT_LIKELY(p->queue.size(run_queue::of_fresh) <= crowd)) return false;
  if (!p->crowd_until) crowd_begins(p);
  return true;
}

} // namespace grt
