// base/spin.cpp - the contended side of the spin lock.
#include "base/spin.hpp"

#include <sched.h>

#include "arch/arch.hpp"
#include "base/check.hpp"

namespace grt::detail {

// Exponential back-off to 32 pauses, 30 rounds, then the core is given away: with more Ps than cores the holder may not
// be running, and a waiter that only spins would keep it off the core.
GRT_NOINLINE void spin_slow(std::uint32_t* word) noexcept {
  for (;;) {
    for (int round = 0, pauses = 4; round < 30; round++) {
      for (int i = 0; i < pauses; i++) arch::relax();
      if (pauses < 32) pauses *= 2;
      // [SPIN-1]
      if (!__atomic_load_n(word, __ATOMIC_RELAXED) && !__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)) return;
    }
    if (forked.load(std::memory_order_relaxed)) die_forked(); // its holder is a thread of the parent's
    sched_yield();
  }
}

} // namespace grt::detail
