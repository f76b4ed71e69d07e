// sched/time/timers.cpp - the wheels of all Ps together; see wheel.hpp and timers.hpp.
//
// Lock order: a context, then a wheel, then a waiter queue or select_state::lock. Of two wheels the one of the lower
// P is locked first.
#include "sched/time/timers.hpp"

#include <ctime>

#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "sched/protocol/held.hpp"

namespace grt {

std::uint64_t now_ns() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1000000000u + static_cast<std::uint64_t>(t.tv_nsec);
}

std::uint64_t deadline_in(std::int64_t ns, std::uint64_t& now) noexcept {
  constexpr std::int64_t coarse_enough = 1000000000;
  constexpr std::uint64_t tick = 10000000; // the coarse clock lags by a tick at most; the slowest kernels have HZ = 100
  if (ns < coarse_enough) return add_ns(now = now_ns(), ns);
  timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  now = static_cast<std::uint64_t>(t.tv_sec) * 1000000000u + static_cast<std::uint64_t>(t.tv_nsec);
  return add_ns(now + tick, ns);
}

std::uint64_t timers_next() noexcept {
  std::uint64_t least = wheel::never;
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    std::uint64_t t = all_p[i].load(std::memory_order_relaxed)->timers.next_ns.load(std::memory_order_relaxed);
    if (t < least) least = t;
  }
  return least;
}

bool timers_due() noexcept {
  std::uint64_t t = timers_next();
  return t != wheel::never && t <= now_ns();
}

void timers_run(M* m) noexcept {
  std::uint64_t now = now_ns();
  for (unsigned i = 0, n = n_made.load(std::memory_order_acquire); i < n; i++) { // [PROCS-1]
    wheel& w = all_p[i].load(std::memory_order_relaxed)->timers;
    if (w.next_ns.load(std::memory_order_relaxed) > now) continue;
    G* list;
    {
      spin_guard hold(w.lock); // its holder has a P, or is a foreign thread (hold.hpp)
      if (w.next_ns.load(std::memory_order_relaxed) > now) continue; // another M was here
      w.advance(now, &list);
    }
    while (G* g = list) {
      list = g->link;
      ready_on_g0(m, g);
    }
  }
}

void timers_move(P* from, P* to) noexcept {
  std::uint64_t next;
  {
    spin_guard hold_to(to->timers.lock), hold_from(from->timers.lock);
    if (!from->timers.armed) return;
    to->timers.absorb(from->timers, now_ns());
    next = to->timers.next_ns.load(std::memory_order_relaxed);
  }
  timer_added(next); // a leader that read `to` before the move and `from` after it has seen no timer
}

void timer_arm(timer_node* n, std::uint64_t when, std::uint64_t now) noexcept {
  wheel& w = timer_home()->timers;
  {
    spin_guard on(w.lock);
    w.insert(n, when, now);
  }
  timer_added(when);
}

bool timer_cancel(timer_node* n) noexcept {
  for (;;) {
    wheel* w = n->owner.load(std::memory_order_acquire); // [OWNER-1]
    if (!w) return false;
    spin_guard hold(w->lock);
    san::acquire(n);
    if (n->owner.load(std::memory_order_acquire) == w)
      return w->remove(n); // [OWNER-1] otherwise the timer has moved, because its P was retired
  }
}

P* timer_home() noexcept {
  M* m = me();
  return m ? m->p : all_p[0].load(std::memory_order_relaxed);
}

} // namespace grt
