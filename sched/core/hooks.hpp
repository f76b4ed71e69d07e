// sched/core/hooks.hpp - one word that says whether a switch has unusual work to do: the event record, canaries,
// floating-point environments, GRT_DEBUG=migrate, libgrt_mutexwatch.so. It is 0 in the common case.
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/trace.hpp>

#include "arch/arch.hpp"
#include "sched/core/ports.hpp"
#include "sched/goroutine/g.hpp"

namespace grt {

struct M;
inline constexpr std::uint32_t hook_trace = 1, hook_canary = 2, hook_valgrind = 4, hook_fp = 8, hook_migrate = 16,
                               hook_mutexwatch = 32;
extern std::atomic<std::uint32_t> hooks;
/// GRT_DEBUG=migrate: every goroutine that becomes runnable goes to the global queue, and search() prefers one that
/// last ran on another M. So the queues of the Ps stay empty, pick() finds nothing, and every switch goes through g0.
GRT_INLINE bool migrating() noexcept { return GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & hook_migrate); }
/// at_ns: the time of the event on CLOCK_MONOTONIC; 0: now.
void record_slow(M* m, trace::kind what, std::uint64_t g, std::uint64_t other, std::uint32_t arg,
                 std::uint64_t at_ns = 0) noexcept;

/// GRT_DEBUG=stall=100ms: a P that has not switched for so long is reported; 0: off.
extern std::uint64_t stall_ns;

/// m is null on a foreign thread.
GRT_INLINE void record(M* m, trace::kind what, std::uint64_t g, std::uint64_t other = 0,
                       std::uint32_t arg = 0) noexcept {
  if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & hook_trace)) record_slow(m, what, g, other, arg);
}

/// Call before a goroutine leaves its thread, or may resume on another one. Pinned goroutines keep their thread and are
/// exempt.
GRT_INLINE void watch_mutexes(const G* g, const char* why) noexcept {
  if (GRT_LIKELY(!(hooks.load(std::memory_order_relaxed) & hook_mutexwatch)) || g->pinned) return;
  mutexwatch_report(g, why, __builtin_return_address(0));
}

} // namespace grt
