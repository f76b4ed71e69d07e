// sched/monitor/stall.hpp - the watchdog: reports a goroutine that holds its thread for long. See stall.cpp.
#pragma once
#include <cstdint>

namespace grt {

struct M;
void stall_start() noexcept; // called by the starting thread before the runtime makes a thread: handles SIGURG
void stall_tell(M* m, std::uint64_t held_ns) noexcept; // caller: sysmon; reports m's goroutine
int stall_signal() noexcept;                           // the signal that asks a thread for its stack; 0: none

} // namespace grt
