// grt/detail/held_lock.hpp - the interface between libgrt_mutexwatch.so (tools/mutexwatch) and the runtime. Not API.
//
// The library is preloaded into a program and records which pthread mutexes and rwlocks each thread holds.
#pragma once

#pragma GCC visibility push(default) // -fvisibility=hidden hides what is not declared here

namespace grt::detail {

/// A lock that the calling thread holds.
struct held_lock {
  static constexpr unsigned most = 16, depth = 8; // locks recorded per thread; frames recorded per lock
  const void* lock;
  const char* kind;    // "mutex" or "rwlock"
  void* frames[depth]; // return addresses of the locking call, innermost first; null after the last one
};

/// Copies the calling thread's list of held locks to `out`, in the order of locking, empties the list, and returns its
/// length. `out` has room for held_lock::most elements. If `out` is null, the thread's locks are recorded from now on,
/// and the list is emptied. The name's number changes with any change of this interface, so that a library of another
/// version is not found. Weak reference: null unless the library is preloaded.
extern "C" __attribute__((weak)) unsigned grt_mutexwatch_1(held_lock* out) noexcept;

} // namespace grt::detail

#pragma GCC visibility pop
