// sched/core/steal.cpp - work stealing: whom to ask, and how much to move.
//
// The owner of a P uses no locks on its queues. So a thief asks, and the owner donates; or the thief
// takes. sched/protocol/bracket.hpp has the states and the proof.
#include <algorithm>

#include "sched/core/fair.hpp"
#include "sched/core/hooks.hpp"
#include "sched/core/sched.hpp"
#include "sched/monitor/handoff.hpp"
#include "sched/protocol/handoff.hpp"

namespace grt {

std::atomic<std::uint64_t> cycles_per_us{2600};
static constexpr std::uint64_t ask_us = 3, age_us = 40, stuck_us = 4;

spin_lock steal_pair;

GRT_NOINLINE bool enter_slow(M* m) noexcept {
  return protocol::answer<hardware>(
      m, [m] { m->p->queue.give_half(m->thief->queue); },
      [m](lost_state l) { l == lost_state::poke ? turn(m->p) : announced_end(); });
}

// A reschedule request (poke) also counts when it reaches its M on g0: without turn(), g0 would make the same
// choice as pick().
void deny(M* m) noexcept {
  if (GRT_UNLIKELY(protocol::deny<hardware>(m) == lost_state::poke)) turn(m->p);
}

// The owner did not answer: it is in user code, or not on a core. `back` is the state to restore.
static void take(M* m, M* victim, P* vp, lost_state back, bool woken_only) noexcept {
  P* p = m->p;
  bool mine = protocol::shut_out<hardware>(victim, vp);
  if (mine) vp->queue.steal_half(p->queue, woken_only);
  protocol::let_go<hardware>(victim, mine, back);
}

static bool steal(M* m, P* vp, bool woken_only) noexcept {
  M* victim = protocol::holder_of<hardware>(vp);
  if (!victim || victim == m) return false;
  lost_state l = victim->lost.load(std::memory_order_relaxed);
  std::uint32_t had = surplus(m->p);
  auto plunder = [&] { take(m, victim, vp, l, woken_only); };
  bool got;
  if (l == lost_state::announced || l == lost_state::poke) { // after a poke the owner may compute for long
    if (!protocol::seize<hardware>(victim, l, steal_pair)) return false;
    plunder();
    got = surplus(m->p) > had;
  } else {
    if (l != lost_state::free) return false;
    std::uint64_t t0 = arch::cycles(), patience = ask_us * cycles_per_us.load(std::memory_order_relaxed);
    got = protocol::rob<hardware>(
        victim, m->p, steal_pair, [&] { return arch::cycles() - t0 < patience; }, plunder,
        [m] { return surplus(m->p); });
  }
  if (got) {
    m->p->steals++;
    m->p->stolen += surplus(m->p) - had;
    record(m, trace::kind::steal, 0, vp->id, surplus(m->p) - had);
  }
  return got;
}

// Has the goroutine at the front waited for age_us? A clock in each goroutine would cost too much, so its age
// in ticks of its P is multiplied by the average time of a tick there. All of it is a hint.
static bool old_front(P* p, run_queue::part part, std::uint32_t tick, std::uint64_t now) noexcept {
  run_queue::front at = p->queue.racy_front(part);
  if (!at.n || at.n > 1u << 30 || (part == run_queue::of_fresh && !at.oldest)) return false;
  std::uint32_t birth = part == run_queue::of_runq ? tick - at.n : racy_read(at.oldest->birth);
  std::int32_t age = static_cast<std::int32_t>(tick - birth);
  if (age <= 0) return false;
  std::uint64_t average = racy_read(p->average), ticks = tick - static_cast<std::uint32_t>(racy_read(p->tick0)),
                spent = now - racy_read(p->cycles0);
  if (static_cast<std::int32_t>(ticks) > 0 && (ticks >= 8 || spent / ticks > average)) average = spent / ticks;
  return static_cast<std::uint64_t>(age) * average > age_us * cycles_per_us.load(std::memory_order_relaxed);
}

bool stealable(M* m, P* p) noexcept {
  if (p == m->p) return false;
  std::uint32_t n = p->queue.racy_surplus();
  std::uint64_t tick = racy_read(p->tick);
  std::uint64_t now = arch::cycles(), us = cycles_per_us.load(std::memory_order_relaxed);
  auto births = static_cast<std::uint32_t>(tick); // G::birth has 32 bits of it
  if (n >= 2 && (old_front(p, run_queue::of_fresh, births, now) || old_front(p, run_queue::of_runq, births, now)))
    return true;
  P::sighting& s = m->p->seen[p->id];
  std::uint64_t spawns = racy_read(p->id_next);
  if ((!n && !p->queue.racy_has_next()) || s.tick != tick) {
    s = {tick, spawns, now, now};
    return false;
  }
  if (s.spawns != spawns) { // it does not switch because it spawns a batch, which it finishes faster alone
    s.spawns = spawns;
    s.spawned = now;
  }
  return now - s.spawned > stuck_us * us || now - s.switched > age_us * us;
}

template <class F> static bool steal_from_any(M* m, bool woken_only, F wanted) noexcept {
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  std::uint32_t x = m->p->random * 1664525u + 1013904223u;
  m->p->random = x;
  for (unsigned k = 0, at = (x >> 8) % n; k < n; k++, at = at + 1 == n ? 0 : at + 1) {
    P* p = all_p[at].load(std::memory_order_relaxed);
    if (wanted(p) && stealable(m, p) && steal(m, p, woken_only)) return true;
  }
  return false;
}

bool hunt(M* m) noexcept {
  deny(m);
  if (injected.n.load(std::memory_order_relaxed)) return true;
  return steal_from_any(m, false, [](P*) { return true; });
}

bool hunt_woken(M* m) noexcept {
  deny(m);
  return steal_from_any(m, true, [](P* p) { return p->queue.racy_has_woken(); });
}

} // namespace grt
