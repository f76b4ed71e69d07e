// debug/peek.hpp - reading what others are writing.
//
// Goroutines are not stopped while they are looked at. So whatever is read may be torn, and what it points to may be
// gone: every reader reads all it wants, then reads the G again, and believes nothing if that has changed. Two ways:
//   racy   memory that is never unmapped: Gs, Ms, Ps, windows. In order (acquire), and seen by no sanitizer: debug/ is
//          built without -fsanitize=thread, and the loads from other people's frames say no_sanitize("address").
//   peek   memory that may be unmapped: the heap, other threads' stacks, strings of libraries. The kernel reads it for
//          us and says EFAULT where we would die.
// Rejected: stopping goroutines (a C++ program can be stopped at any instruction, malloc's lock in hand), a lock in the
// G (the hot paths would pay for the debugger).
#pragma once
#include <cstddef>
#include <cstdint>

namespace grt::debug {

/// In order: what is read later is no older.
template <class T> [[gnu::noinline]] __attribute__((no_sanitize("address", "thread"))) T racy(const T& x) noexcept {
  T v;
  __atomic_load(&x, &v,
                __ATOMIC_ACQUIRE); // [LOOK-1] pairs with the release of the lock that a switch ends with, and drop_ext
  return v;
}

/// Copies n bytes, less than a pipe takes at once (4,096). false: not readable. Async-signal-safe.
bool peek(const void* from, void* to, std::size_t n) noexcept;
/// Copies a string of less than n bytes; a longer one is cut. false: not readable.
bool peek_string(const char* from, char* to, std::size_t n) noexcept;

} // namespace grt::debug
