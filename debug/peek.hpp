// debug/peek.hpp - reads memory that other threads are writing.
//
// Goroutines are not stopped while they are inspected. So a value that was read may be torn, and the memory that it
// points to may be gone. Every reader therefore reads all that it wants, then reads the G again, and discards
// everything if the G has changed. There are two ways to read:
//   racy  for memory that is never unmapped: Gs, Ms, Ps, windows. The loads are in order (acquire), and no sanitizer
//         sees them: debug/ is built without -fsanitize=thread, and loads from frames of other goroutines are marked
//         no_sanitize("address").
//   peek  for memory that may be unmapped: the heap, stacks of other threads, strings of libraries. The kernel reads it
//         for us, and returns EFAULT where a load would fault.
// Rejected: stopping goroutines. A C++ program can be stopped at any instruction, for instance while it holds malloc's
// lock.
// Rejected: a lock in the G. The hot paths would pay for the debugger.
#pragma once
#include <cstddef>
#include <cstdint>

namespace grt::debug {

/// An acquire load: what is read after it is not older.
template <class T> [[gnu::noinline]] __attribute__((no_sanitize("address", "thread"))) T racy(const T& x) noexcept {
  T v;
  __atomic_load(&x, &v,
                __ATOMIC_ACQUIRE); // [LOOK-1] pairs with a switch's release of its lock, and with drop_ext
  return v;
}

/// Copies n bytes. n is less than 4,096, which a pipe takes at once. Returns false if the memory is not readable.
/// Async-signal-safe.
bool peek(const void* from, void* to, std::size_t n) noexcept;
/// Copies a string of less than n bytes; a longer one is cut off. Returns false if the memory is not readable.
bool peek_string(const char* from, char* to, std::size_t n) noexcept;

} // namespace grt::debug
