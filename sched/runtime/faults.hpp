// sched/runtime/faults.hpp - reports of stack overflows and of accesses to guards.
#pragma once
#include <cstdint>

#include "sched/core/hooks.hpp"

namespace grt {

/// Once, at the start.
void faults_start() noexcept;
/// A window ran over: `top` names it. Any thread.
[[noreturn]] void report_overrun(const char* top) noexcept;

/// A window has been made that has no guard: from now on canaries are looked at. Any thread; more than once.
void canaries_begin() noexcept;

// Under hook_canary.
/// Before g gives way: its canary.
void check_canary(const G* g) noexcept;
/// Where g ends: also what its canary cannot tell. Cost: a system call.
void check_overrun(const G* g) noexcept;
/// Before g runs again: whether an overflow of the window above may have destroyed its frames.
void check_frames(const G* g) noexcept;
/// Sysmon, at each look: whoever runs on a P.
void check_running() noexcept;

void about_to_run_slow(M* m, const G* g) noexcept;
/// On g0, before it switches to g: the event record and canaries.
GRT_INLINE void about_to_run(M* m, const G* g) noexcept {
  if (GRT_UNLIKELY(hooks.load(std::memory_order_relaxed) & (hook_trace | hook_canary))) about_to_run_slow(m, g);
}

} // namespace grt
