// grt/detail/spin.hpp - the one-word spin lock of channels, wait groups and mutex queues. Not API.
//
//   0 free   1 held. Held for tens of instructions, never across user code; but a parking goroutine keeps it until its
//   registers
// are saved, and then the switch itself stores the 0 (arch/*/switch.S). That store is not seen by ThreadSanitizer: who
// parks calls tsan_release first. Rejected: a ticket or MCS lock (a preempted waiter stalls the queue when Ps outnumber
// cores); a test before the exchange (one more miss when the line is remote and the lock free, which is the common
// case).
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

namespace grt::detail {

void spin_slow(std::uint32_t* word) noexcept; // backs off, then yields the core to whoever was preempted with the lock

void check_holds() noexcept; // dies where a goroutine takes a lock that could lose its processor with it

struct spin_lock {
  std::uint32_t word = 0;

  GRT_DETAIL_INLINE void lock() noexcept {
#ifdef GRT_CHECK_HOLDS // debug and sanitized builds of the library
    check_holds();
#endif
    // [SPIN-1] acquires what the previous holder wrote; pairs with unlock() and with the release in grt_switch.
    if (GRT_DETAIL_UNLIKELY(__atomic_exchange_n(&word, 1, __ATOMIC_ACQUIRE))) spin_slow(&word);
  }
  GRT_DETAIL_INLINE bool try_lock() noexcept {
    // [SPIN-1]
    return !__atomic_load_n(&word, __ATOMIC_RELAXED) && !__atomic_exchange_n(&word, 1, __ATOMIC_ACQUIRE);
  }
  GRT_DETAIL_INLINE void unlock() noexcept {
    __atomic_store_n(&word, 0, __ATOMIC_RELEASE); // [SPIN-1] hands over what was written under the lock
  }
  /// Before a park that lets the switch release this lock.
  GRT_DETAIL_INLINE void tsan_release() noexcept {
#if GRT_DETAIL_TSAN
    __tsan_release(&word);
#endif
  }
  /// After lock(), where the previous holder may have released it inside the switch.
  GRT_DETAIL_INLINE void tsan_acquire() noexcept {
#if GRT_DETAIL_TSAN
    __tsan_acquire(&word);
#endif
  }
};

} // namespace grt::detail
