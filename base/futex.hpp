// base/futex.hpp - sleep and wake on a 32-bit word, and membarrier(), the expensive half of an asymmetric fence.
#pragma once
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace grt {

/// Sleeps while *word == expected, for at most `ns` nanoseconds (negative: no limit). Spurious returns are possible.
/// errno is not preserved.
inline void futex_wait(std::atomic<std::uint32_t>* word, std::uint32_t expected, std::int64_t ns = -1) noexcept {
  timespec t{static_cast<time_t>(ns / 1000000000), static_cast<long>(ns % 1000000000)};
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, ns < 0 ? nullptr : &t, nullptr, 0);
}
inline void futex_wake(std::atomic<std::uint32_t>* word, int n = 1) noexcept {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, nullptr, nullptr, 0);
}

/// Selects a kind of membarrier that works here. Returns false if there is none; the caller then reports that and
/// refuses to start.
bool membarrier_start() noexcept;
/// Executes a full fence on every thread of this process that is running now. The other side of the protocol then needs
/// only a plain store and a compiler barrier. The kinds, best first:
///   membarrier(2) PRIVATE_EXPEDITED, Linux 4.14
///   membarrier(2) GLOBAL, Linux 4.3
///   on x86, an mprotect that shoots down TLB entries
///   on AArch64 (qemu-user), a visit to every core
void membarrier() noexcept;

} // namespace grt
