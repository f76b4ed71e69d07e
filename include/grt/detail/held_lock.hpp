// grt/detail/held_lock.hpp - what libgrt_mutexwatch.so (tools/mutexwatch) tells the runtime in a program. Not API.
#pragma once

namespace grt::detail {

/// A lock that the calling thread holds.
struct held_lock {
  static constexpr unsigned most = 16, depth = 8;
  const void* lock;
  const char* kind;    // "mutex" or "rwlock"
  void* frames[depth]; // return addresses, innermost first: who locked it; null behind the last
};

/// Moves the calling thread's list, in the order of locking, to `out`, which has room for held_lock::most, and returns
/// how many there were. null: from now on this thread's locks are noted down. The name changes whenever any of this
/// does: what does not match is as if it were not there. Weak: present only if the library is preloaded.
extern "C" __attribute__((weak)) unsigned grt_mutexwatch_1(held_lock* out) noexcept;

} // namespace grt::detail
