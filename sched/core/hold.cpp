// sched/core/hold.cpp - the slow path of hold().
#include "sched/core/hold.hpp"

#include "base/check.hpp"
#include "sched/core/sched.hpp"
#include "sched/protocol/hold.hpp"

namespace grt {

void detail::hold_slow() noexcept {
  for (;;) {
    M* m = me();
    if (!m) return; // this thread left the runtime when a goroutine called exit() on it
    hold_words* words = m->words.load(
        std::memory_order_relaxed); // not grt_tls_hold: the compiler may keep its address, but the thread may change
    if (words->holds.load(std::memory_order_relaxed) > 1 || m->in.load(std::memory_order_relaxed)) return;
    let_loose();
    if (!protocol::await_hold<hardware>(words)) m = reacquire(m);
    if (protocol::hold<hardware>(m->words.load(std::memory_order_relaxed))) return;
  }
}

// Checks that a lock is not taken by a goroutine that may lose its P. No hold is needed inside a bracket, where the P
// cannot be taken. None is needed on g0 either, also when it reports a fatal error, unless its priority is lowered.
void detail::check_holds() noexcept {
  const M* m = me();
  if (!m || m->in.load(std::memory_order_relaxed)) return;
  const hold_words* words = m->words.load(std::memory_order_relaxed);
  if (!words || words->holds.load(std::memory_order_relaxed)) return;
  GRT_CHECK(m->g == m->g0p && !m->low, "a lock is taken by a goroutine that may lose its processor with it");
}

} // namespace grt
