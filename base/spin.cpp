// base/spin.cpp - the contended side of the spin lock.
#include "base/spin.hpp"

#include <ctime>
#include <sched.h>

#include "arch/arch.hpp"
#include "base/check.hpp"

namespace grt::detail {

// Locks are held for tens of instructions. Who waits for longer than some microseconds waits for a thread that has no
// core: with more threads than cores the kernel takes it from a holder, too. So then the core is given away; and where
// that does not help, because the holder has a lower priority (a thread of the program's own), it is left for a while.
// A handler that waits for a lock that the interrupted code holds would wait for ever; on the alternate stack it is
// known for a handler.
GRT_NOINLINE void spin_slow(std::uint32_t* word) noexcept {
  constexpr int pauses_most = 16, rounds = 8, yields = 16;
  for (int gave = 0;; gave++) {
    for (int round = 0, pauses = 4; round < rounds; round++) {
      for (int i = 0; i < pauses; i++) arch::relax();
      if (pauses < pauses_most) pauses *= 2;
      // [SPIN-1]
      if (!__atomic_load_n(word, __ATOMIC_RELAXED) && !__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)) return;
    }
    if (forked.load(std::memory_order_relaxed)) die_forked(); // its holder is a thread of the parent's
    if (gave % 128 == 127 && on_signal_stack()) die_in_handler();
    if (gave < yields) {
      sched_yield();
    } else {
      timespec nap{0, 50'000};
      nanosleep(&nap, nullptr);
    }
  }
}

} // namespace grt::detail
