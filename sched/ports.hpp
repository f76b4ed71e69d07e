// sched/ports.hpp - what the scheduler wants from the folders above it: declared here, defined there, so that the
// linker finds it and no include points upwards.
#pragma once

namespace grt {

/// debug/quit.cpp. Once, at the end of the first start.
void watch_sigquit() noexcept;
/// debug/dump.cpp. Every goroutine and thread that waits, for what, and its stack. Allocates nothing, takes no lock.
void report_waiting(int fd) noexcept;

} // namespace grt
