// sched/core/hold.hpp - holds: a goroutine keeps its P while it has a lock of the runtime. Why: grt/detail/hold.hpp.
//
// The caller of spin_lock::lock() must not lose its P while it has the lock. So it has a hold, or is inside a bracket,
// or is a thread that runs no goroutine. Debug and sanitized builds check that in every lock().
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/detail/hold.hpp>

#include "base/spin.hpp"

namespace grt {
using detail::hold, detail::let_loose;

/// grt/detail/hold.hpp relies on this layout.
struct hold_words {
  std::atomic<std::uint32_t> holds, barred;
};
// Visible: grt/detail/hold.hpp refers to it from the code of programs.
extern "C" __thread hold_words grt_tls_hold __attribute__((tls_model("initial-exec"), visibility("default")));

/// The calling goroutine keeps its P while this object lives. Any thread may use it. Not across a wait.
class holding {
public:
  holding() noexcept { hold(); }
  ~holding() { let_loose(); }
  holding(const holding&) = delete;
  holding& operator=(const holding&) = delete;
};

/// For a lock that is taken outside of brackets.
class held_guard {
public:
  explicit held_guard(spin_lock& l) noexcept : guard_(l) {}
  held_guard(const held_guard&) = delete;
  held_guard& operator=(const held_guard&) = delete;

private:
  holding first_;
  spin_guard guard_;
};

} // namespace grt
