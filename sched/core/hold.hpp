// sched/core/hold.hpp - locks of the runtime that goroutines take; why they hold: grt/detail/hold.hpp.
//
// A spin_lock is taken by code that cannot lose its P meanwhile: it holds, or is inside a bracket; or by a thread that
// runs no goroutine. Debug and sanitized builds ask that of every lock().
#pragma once
#include <atomic>
#include <cstdint>

#include <grt/detail/hold.hpp>

#include "base/spin.hpp"

namespace grt {
using detail::hold, detail::let_loose;

/// Layout known to grt/detail/hold.hpp.
struct hold_words {
  std::atomic<std::uint32_t> holds, barred;
};
// Visible: grt/detail/hold.hpp refers to it from the code of programs.
extern "C" __thread hold_words grt_tls_hold __attribute__((tls_model("initial-exec"), visibility("default")));

/// Keeps the calling goroutine's P; any thread. Not across a wait.
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
