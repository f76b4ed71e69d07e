// base/spin.cpp - the contended side of the spin lock.
#include "base/spin.hpp"

#include <ctime>
#include <sched.h>

#include "arch/arch.hpp"
#include "base/check.hpp"

namespace grt::detail {

// A lock is held for tens of instructions. So a waiter that has spun for some microseconds waits for a thread that has
// no core: with more threads than cores, the kernel also preempts holders. The waiter
//   1. spins for 8 rounds, with 4, 8, then 16 pauses a round;
//   2. gives its core away with sched_yield and spins again, 16 times;
//   3. then sleeps 50 us before each further attempt. sched_yield does not help if the holder has a lower priority, as
//      a thread of the program may have.
// A signal handler that waits for a lock of the code that it interrupted would wait for ever. A handler that runs on
// the alternate stack is recognized, and the process ends with a message.
GRT_NOINLINE void spin_slow(std::uint32_t* word) noexcept {
  constexpr int pauses_most = 16, rounds = 8, yields = 16;
  for (int gave = 0;; gave++) {
    for (int round = 0, pauses = 4; round < rounds; round++) {
      for (int i = 0; i < pauses; i++) arch::relax();
      if (pauses < pauses_most) pauses *= 2;
      // [SPIN-1]
      if (!__atomic_load_n(word, __ATOMIC_RELAXED) && !__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)) return;
    }
    if (forked.load(std::memory_order_relaxed)) die_forked(); // the holder is a thread that only the parent has
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
