// sched/monitor/stall.hpp - GRT_DEBUG=stall=TIME: who holds a thread for long is reported. See stall.cpp.
#pragma once
#include <cstdint>

namespace grt {

struct M;
void stall_start() noexcept; // on the starting thread, before the first of the runtime's: handles SIGURG
void stall_tell(M* m, std::uint64_t held_ns) noexcept; // sysmon: m's goroutine has held it for so long
int stall_signal() noexcept;                           // that asks a thread for its stack; 0: none

} // namespace grt
