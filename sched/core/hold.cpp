// sched/core/hold.cpp - the side of hold() that is not hot.
#include "sched/core/hold.hpp"

#include "base/check.hpp"
#include "sched/core/sched.hpp"
#include "sched/protocol/hold.hpp"

namespace grt {

void detail::hold_slow() noexcept {
  for (;;) {
    M* m = me();
    if (!m) return; // a thread that was the runtime's until a goroutine called exit() on it
    hold_words* words = m->words.load(std::memory_order_relaxed); // not grt_tls_hold, whose address would be kept
    if (words->holds.load(std::memory_order_relaxed) > 1 || m->in.load(std::memory_order_relaxed)) return;
    let_loose();
    if (!protocol::await_hold<hardware>(words)) m = reacquire(m);
    if (protocol::hold<hardware>(m->words.load(std::memory_order_relaxed))) return;
  }
}

// Inside a bracket nobody takes the P, and g0 is not lowered; nor is who is reporting a death.
void detail::check_holds() noexcept {
  const M* m = me();
  if (!m || m->in.load(std::memory_order_relaxed)) return;
  const hold_words* words = m->words.load(std::memory_order_relaxed);
  if (!words || words->holds.load(std::memory_order_relaxed)) return;
  GRT_CHECK(m->g == m->g0p && !m->low, "a lock is taken by a goroutine that may lose its processor with it");
}

} // namespace grt
