// base/futex.hpp - sleep on a 32-bit word, and the expensive half of the asymmetric fence.
#pragma once
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace grt {

/// Sleeps while *word == expected, at most `ns` nanoseconds (negative: for ever). Spurious returns are possible.
/// Preserves nothing.
inline void futex_wait(std::atomic<std::uint32_t>* word, std::uint32_t expected, std::int64_t ns = -1) noexcept {
  timespec t{static_cast<time_t>(ns / 1000000000), static_cast<long>(ns % 1000000000)};
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, ns < 0 ? nullptr : &t, nullptr, 0);
}
inline void futex_wake(std::atomic<std::uint32_t>* word, int n = 1) noexcept {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, nullptr, nullptr, 0);
}

/// Finds a working kind of membarrier. false: this machine has none (the caller says so and refuses to start).
bool membarrier_start() noexcept;
/// A full fence on every thread of this process that runs now: the expensive partner of a plain store and a compiler
/// barrier. membarrier(2) PRIVATE_EXPEDITED (Linux 4.14), else GLOBAL (4.3), else (x86) an mprotect that shoots TLBs
/// down or (AArch64, qemu-user) a visit to every core.
void membarrier() noexcept;

} // namespace grt
