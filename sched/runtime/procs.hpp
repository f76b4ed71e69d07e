// sched/runtime/procs.hpp - how many Ps there are.
#pragma once

namespace grt {

/// At the start, under the lock of starters. @throws std::system_error: no memory, or no thread
void procs_begin(unsigned n, bool follow_the_system);
/// sysmon: affinity or quota may have changed.
void follow_cpus() noexcept;

} // namespace grt
