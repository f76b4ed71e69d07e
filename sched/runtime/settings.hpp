// sched/runtime/settings.hpp - options and GRT_* variables, read once when the runtime starts.
#pragma once
#include <cstdint>

#include <grt/runtime.hpp>

#include "stack/windows.hpp"

namespace grt {

struct settings {
  unsigned procs = 0; // 0: as many as the system allows
  unsigned threads_max = 10000;
  bool hogs_are_lowered = true;
  stack::config stacks;
  std::uint64_t stall_ns = 0;    // 0: no watchdog
  std::uint32_t debug_hooks = 0; // hooks.hpp
};

/// Reads the options and the variables. A variable overrides an option. A bad variable ends the program with a
/// message and status 2. @throws std::invalid_argument: a bad option
settings read_settings(const options& asked);

} // namespace grt
