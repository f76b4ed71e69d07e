// sched/runtime/procs.hpp - how many Ps there are.
#pragma once

namespace grt {

/// Makes the first n Ps. Caller: the start of the runtime, under its lock. @throws std::system_error: no memory, or
/// no thread
void procs_begin(unsigned n, bool follow_the_system);
/// Changes the number of Ps if affinity or quota have changed. Caller: sysmon.
void follow_cpus() noexcept;

} // namespace grt
