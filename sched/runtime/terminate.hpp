// sched/runtime/terminate.hpp - see terminate.cpp.
#pragma once

namespace grt {

/// Called once, when the runtime starts.
void terminate_begin() noexcept;

} // namespace grt
