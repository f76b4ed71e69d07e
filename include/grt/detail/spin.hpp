// grt/detail/spin.hpp - the one-word spin lock of channels, wait groups and mutex queues. Not API.
//
//   word  meaning
//   0     free
//   1     held
//
// The lock is held for tens of instructions. The only user code that runs under it moves and destroys a channel's
// elements. A goroutine that parks keeps the lock until its registers are saved; the switch itself then stores the 0
// (arch/*/switch.S). ThreadSanitizer does not see that store, so a goroutine calls tsan_release() before it parks.
//
// Rejected:
//   - a ticket or MCS lock: a preempted waiter stalls the queue when there are more processors than cores.
//   - a test before the exchange: it costs one more cache miss when the line is remote and the lock is free, which is
//     the common case.
#pragma once
#include <cstdint>

#include <grt/detail/config.hpp>

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {

/// Waits for the lock and takes it. Backs off, then gives the core away, so that a preempted holder can run.
void spin_slow(std::uint32_t* word) noexcept;

/// Ends the program if the calling goroutine takes a lock outside a hold (grt/detail/hold.hpp): it could lose its
/// processor while it holds the lock.
void check_holds() noexcept;

struct spin_lock {
  std::uint32_t word = 0;

  GRT_DETAIL_INLINE void lock() noexcept {
#ifdef GRT_CHECK_HOLDS // debug and sanitized builds of the library
    check_holds();
#endif
    // [SPIN-1] acquires what the previous holder wrote; pairs with unlock() and with the release in grt_switch
    if (GRT_DETAIL_UNLIKELY(__atomic_exchange_n(&word, 1, __ATOMIC_ACQUIRE))) spin_slow(&word);
  }
  GRT_DETAIL_INLINE bool try_lock() noexcept {
    // [SPIN-1]
    return !__atomic_load_n(&word, __ATOMIC_RELAXED) && !__atomic_exchange_n(&word, 1, __ATOMIC_ACQUIRE);
  }
  GRT_DETAIL_INLINE void unlock() noexcept {
    __atomic_store_n(&word, 0, __ATOMIC_RELEASE); // [SPIN-1] publishes what was written under the lock
  }
  /// Call before a park in which the switch releases this lock.
  GRT_DETAIL_INLINE void tsan_release() noexcept {
#if GRT_DETAIL_TSAN
    __tsan_release(&word);
#endif
  }
  /// Call after lock() if the previous holder may have released the lock in the switch.
  GRT_DETAIL_INLINE void tsan_acquire() noexcept {
#if GRT_DETAIL_TSAN
    __tsan_acquire(&word);
#endif
  }
};

} // namespace grt::detail

#pragma GCC visibility pop
