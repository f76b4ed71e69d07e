// sched/runtime/faults.hpp - reports of stack overflows and of accesses to guards.
#pragma once
#include <cstdint>

#include "sched/core/hooks.hpp"

namespace grt {

/// Called once, when the runtime starts.
void faults_start() noexcept;
/// Reports that the window with this `top` has overflowed. Any thread.
[[noreturn]] void report_overrun(const char* top) noexcept;

/// A window without a guard has been made: from now on canaries are checked. Any thread; may be called again.
void canaries_begin() noexcept;

// The following are called only under hook_canary.
/// Checks the canary of g, before g gives way.
void check_canary(const G* g) noexcept;
/// Checks g where it ends: also for an overflow that skipped the canary. Costs a system call.
void check_overrun(const G* g) noexcept;
/// Checks, before g runs again, whether an overflow of the window above may have destroyed its frames.
void check_frames(const G* g) noexcept;
/// Checks all goroutines that run on a P. Caller: sysmon, at each look.
void check_running() noexcept;

void about_to_run_slow(M* m, const G* g) noexcept;
/// Records that g runs and checks canaries. Caller: g0, before it switches to g.
GRT_INLINE void about_to_run(M* m, const G* g) noexcept {
  if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & (hook_trace | hook_canary))) about_to_run_slow(m, g);
}

} // namespace grt
