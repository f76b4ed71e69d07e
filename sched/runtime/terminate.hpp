// sched/runtime/terminate.hpp - the report of std::terminate on a goroutine; see terminate.cpp.
#pragma once

namespace grt {

/// Installs the terminate handler. Called once, when the runtime starts.
void terminate_begin() noexcept;

} // namespace grt
