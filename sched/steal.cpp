// sched/steal.cpp - how work leaves a P whose owner uses no locks: ask, donate, take.
//
//  M::lost  set by              meaning                                  leaves by
//  free     -                   the owner works alone                    thief: free -> ask (CAS)
//  ask      thief               m->thief wants work                      owner inside: ask -> grant (CAS) or -> free
//  (deny); thief: ask -> take grant    owner               it is pushing into the thief's rings     owner: -> free take
//  thief               the owner may not enter                  thief: -> free
//
// Owner: in = 1; compiler barrier; read lost.   Thief: lost = take; membarrier; read in. [BRK-1]
// One of the two sees the other. in == 0 after the membarrier: the owner is outside and will wait in enter_slow, so its
// P is the thief's until it stores free. in == 1: the thief gives up; the owner will answer at its next bracket. While
// a thief waits for a grant it is inside its own bracket, so nobody takes from it; it may be asked and denies.
// Rejected: two states (an asker that times out while the owner donates loses the work); a shared ring with a CAS per
// pop (2 ns each, always).
#include <algorithm>
#include <sched.h>

#include "base/futex.hpp"
#include "sched/hooks.hpp"
#include "sched/sched.hpp"

namespace grt {

std::atomic<std::uint64_t> cycles_per_us{2600};
static constexpr std::uint64_t ask_us = 3, age_us = 40, stuck_us = 4;
static constexpr std::uint32_t donate_max = 128;

namespace {
void pause(int& i) noexcept {
  arch::relax();
  if (++i % 1000 == 0) sched_yield();
}

std::uint32_t move(ring& from, ring& to, std::uint32_t n) noexcept {
  n = std::min(n, donate_max);
  for (std::uint32_t i = 0; i < n; i++) {
    G* g = from.pop_front();
    if (!to.push(g)) inject_inside(g);
  }
  return n;
}

template <class T> T peek(const T& x) noexcept { return *const_cast<const volatile T*>(&x); } // racy on purpose, a hint
spin_lock pair; // `thief` and `lost` change together
} // namespace

GRT_NOINLINE void enter_slow(M* m, std::uintptr_t parks_under) noexcept {
  for (int i = 0;;) {
    if (GRT_UNLIKELY(exiting.load(std::memory_order_relaxed))) {
      __atomic_store_n(&m->in, 0, __ATOMIC_RELEASE); // [BRK-1]
      // A static object's destructor may want the channel that we are about to wait on.
      if (parks_under & 1) grt_commit(parks_under);
      else if (parks_under) reinterpret_cast<spin_lock*>(parks_under)->unlock();
      for (;;) ::pause();
    }
    *const_cast<volatile std::uint32_t*>(&m->in) = 1;
    asm volatile("" ::: "memory");
    lost_state l = m->lost.load(std::memory_order_acquire); // [LOST-1] sees what the thief left in the queues
    if (l == lost_state::free) return;
    if (l == lost_state::ask) {
      if (!m->lost.compare_exchange_strong(l, lost_state::grant, std::memory_order_acq_rel)) continue; // [LOST-1]
      move(m->p->fresh, m->thief->fresh, m->p->fresh.size() / 2);
      move(m->p->ready, m->thief->ready, m->p->ready.size() / 2);
      m->lost.store(lost_state::free, std::memory_order_release); // [LOST-1] the thief sees its rings filled
      continue;
    }
    __atomic_store_n(&m->in, 0, __ATOMIC_RELEASE); // [BRK-1] take: stay out
    while (m->lost.load(std::memory_order_relaxed) == lost_state::take && !exiting.load(std::memory_order_relaxed))
      pause(i);
  }
}

void deny(M* m) noexcept {
  lost_state l = lost_state::ask;
  if (GRT_UNLIKELY(m->lost.load(std::memory_order_relaxed) != lost_state::free))
    m->lost.compare_exchange_strong(l, lost_state::free, std::memory_order_acq_rel); // [LOST-1]
}

// The owner did not answer: it is in user code, or off its core.
static bool take(M* m, M* victim, P* vp) noexcept {
  P* p = m->p;
  membarrier();                                                                 // [BRK-1]
  if (__atomic_load_n(&victim->in, __ATOMIC_ACQUIRE) == 0 && victim->p == vp) { // [BRK-1]
    std::uint32_t n = move(vp->fresh, p->fresh, (vp->fresh.size() + 1) / 2);
    n += move(vp->ready, p->ready, (vp->ready.size() + 1) / 2);
    if (!n && vp->next) {
      push_ready(p, vp->next);
      vp->next = nullptr;
    }
  }
  victim->lost.store(lost_state::free, std::memory_order_release); // [LOST-1]
  return surplus(p) > 0;
}

static bool steal(M* m, P* vp) noexcept {
  M* victim = vp->m.load(std::memory_order_acquire); // [LEND-2]
  if (!victim || victim == m || victim->lost.load(std::memory_order_relaxed) != lost_state::free) return false;
  {
    if (!pair.try_lock()) return false;
    bool asked = victim->lost.load(std::memory_order_relaxed) == lost_state::free;
    if (asked) {
      victim->thief = m->p;
      victim->lost.store(lost_state::ask,
                         std::memory_order_release); // [LOST-1] nobody else leaves `free` but under `pair`
    }
    pair.unlock();
    if (!asked) return false;
  }
  std::uint64_t t0 = arch::cycles(), patience = ask_us * cycles_per_us.load(std::memory_order_relaxed);
  while (victim->lost.load(std::memory_order_acquire) == lost_state::ask && arch::cycles() - t0 < patience)
    arch::relax(); // [LOST-1]
  lost_state l = lost_state::ask;
  bool got;
  if (victim->lost.compare_exchange_strong(l, lost_state::take, std::memory_order_acq_rel)) { // [LOST-1]
    got = take(m, victim, vp);
  } else {
    for (int i = 0; l == lost_state::grant; l = victim->lost.load(std::memory_order_acquire)) pause(i); // [LOST-1]
    got = surplus(m->p) > 0;
  }
  if (got) {
    m->steals++;
    m->stolen += surplus(m->p);
    record(m, trace::kind::steal, 0, vp->id, surplus(m->p));
  }
  return got;
}

void shut_out(M* m) noexcept {
  for (int i = 0;; pause(i)) {
    spin_guard hold(pair);
    if (m->lost.load(std::memory_order_relaxed) != lost_state::free) continue; // a thief and its victim are not done
    m->lost.store(lost_state::take, std::memory_order_release);                // [LOST-1] for good
    return;
  }
}

// Has the goroutine at the front waited age_us, by its owner's own rate of ticks?
static bool old_front(P* p, const ring& r, std::uint32_t tick, std::uint64_t now, bool fifo) noexcept {
  std::uint32_t head = peek(r.head), n = peek(r.tail) - head;
  G** slots = peek(r.slots);
  if (!slots || !n || n > 1u << 30) return false;
  std::uint32_t birth = tick - n;
  if (!fifo) {
    G* g =
        peek(slots[head & std::min(peek(r.mask), 511u)]); // any array has 512 slots; a wrong one is only a wrong hint
    if (!g) return false;
    birth = peek(g->birth);
  }
  std::int32_t age = static_cast<std::int32_t>(tick - birth);
  if (age <= 0) return false;
  std::uint64_t average = peek(p->average), ticks = tick - peek(p->tick0), spent = now - peek(p->cycles0);
  if (static_cast<std::int32_t>(ticks) > 0 && (ticks >= 8 || spent / ticks > average)) average = spent / ticks;
  return static_cast<std::uint64_t>(age) * average > age_us * cycles_per_us.load(std::memory_order_relaxed);
}

bool stealable(M* m, P* p) noexcept {
  if (p == m->p) return false;
  std::uint32_t n = (peek(p->fresh.tail) - peek(p->fresh.head)) + (peek(p->ready.tail) - peek(p->ready.head));
  std::uint32_t tick = peek(p->tick);
  std::uint64_t now = arch::cycles(), us = cycles_per_us.load(std::memory_order_relaxed);
  if (static_cast<std::int32_t>(n) < 0) n = 0;
  if (n >= 2 && (old_front(p, p->fresh, tick, now, false) || old_front(p, p->ready, tick, now, true))) return true;
  M::sighting& s = m->seen[p->id];
  if ((!n && !peek(p->next)) || s.tick != tick) {
    s = {tick, now};
    return false;
  }
  return now - s.cycles > stuck_us * us; // it has something and has not switched since
}

bool hunt(M* m) noexcept {
  deny(m);
  if (injected.n.load(std::memory_order_relaxed)) return true;
  unsigned n = n_made.load(std::memory_order_acquire); // [PROCS-1]
  std::uint32_t x = m->p->random * 1664525u + 1013904223u;
  m->p->random = x;
  for (unsigned k = 0, at = (x >> 8) % n; k < n; k++, at = at + 1 == n ? 0 : at + 1) {
    P* p = all_p[at].load(std::memory_order_relaxed);
    if (stealable(m, p) && steal(m, p)) return true;
  }
  return false;
}

} // namespace grt
